"""The artifact store: action-addressed artifacts, content data versions, row reuse."""

from ragft_pipeline.store.artifacts import Artifact, ArtifactStore, How, Link
from ragft_pipeline.store.digests import table_digest
from ragft_pipeline.store.rows import RowCache, Workspace

__all__ = [
    "Artifact",
    "ArtifactStore",
    "How",
    "Link",
    "RowCache",
    "Workspace",
    "table_digest",
]
