"""The artifact store: action-addressed artifacts, content data versions, row reuse."""

from ragft_pipeline.store.artifacts import Artifact, ArtifactStore, How, Link
from ragft_pipeline.store.digests import digest_of, file_sha256, table_digest
from ragft_pipeline.store.rows import RowCache, Workspace

__all__ = [
    "Artifact",
    "ArtifactStore",
    "How",
    "Link",
    "RowCache",
    "Workspace",
    "digest_of",
    "file_sha256",
    "table_digest",
]
