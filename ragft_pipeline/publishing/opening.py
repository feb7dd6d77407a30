"""From a target in ragft.yaml to the collection it names."""

from __future__ import annotations

import os
from pathlib import Path

from ragft_pipeline.errors import RagftError
from ragft_pipeline.publishing.target import Target
from ragft_pipeline.settings import TargetSettings


def open_target(settings: TargetSettings, locks: Path) -> Target:
    """Open a target; its library is imported here.

    Args:
        locks: a folder that all who publish on this machine share.

    Raises RagftError where the library or the key is missing, or the database is not there.
    """
    key = ""
    if settings.key_env:
        key = os.environ.get(settings.key_env, "")
        if not key:
            raise RagftError(f"target {settings.name}: the variable {settings.key_env} is not set")
    if settings.kind == "qdrant":
        from ragft_pipeline.publishing.qdrant_target import QdrantTarget

        return QdrantTarget(settings.where, settings.collection, locks, key)
    if settings.kind == "pgvector":
        from ragft_pipeline.publishing.postgres_target import PostgresTarget

        return PostgresTarget(settings.where, settings.collection, key)
    from ragft_pipeline.publishing.lance_target import LanceTarget

    return LanceTarget(settings.where, settings.collection, locks)
