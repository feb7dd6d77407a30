"""Housekeeping: what no kept version needs, and how much room things take."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ragft_pipeline.store.artifacts import ArtifactStore

_IN_FLIGHT_SECONDS = 3600.0


@dataclass(frozen=True)
class Garbage:
    """A folder that nothing kept needs."""

    path: Path
    size: int


def size_of(path: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def find_garbage(
    store: ArtifactStore, kept_versions: Iterable[str], now: float | None = None
) -> list[Garbage]:
    """Return the artifacts that no kept version links, and what dead runs left in staging.

    Whatever is younger than an hour is left alone: its run may be about to link it. An artifact
    holds every row it was made of, so removing another one costs the kept versions nothing.
    """
    limit = (time.time() if now is None else now) - _IN_FLIGHT_SECONDS
    needed = {
        (link["asset"], link["action"])
        for version in kept_versions
        for path in (store.root / "versions" / version).glob("*.json")
        for link in [json.loads(path.read_text(encoding="utf-8"))]
    }
    artifacts = (store.root / "artifacts").glob("*/*/artifact.json")
    unlinked = [p.parent for p in artifacts if (p.parent.parent.name, p.parent.name) not in needed]
    staged = [p for p in (store.root / "staging").glob("*") if p.name != "rows"]
    old = [path for path in (*unlinked, *staged) if path.stat().st_mtime < limit]
    return [Garbage(path, size_of(path)) for path in sorted(old)]


def remove(garbage: Iterable[Garbage]) -> int:
    """Remove the folders and return the bytes that were freed.

    A folder is renamed out of sight first, so that a reader sees all of it or nothing.
    """
    freed = 0
    for item in garbage:
        hidden = item.path.with_name(f".removed-{item.path.name}")
        item.path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
        freed += item.size
    return freed
