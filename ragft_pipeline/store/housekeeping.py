"""Housekeeping: what no kept version needs, and how much room things take."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
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


@dataclass(frozen=True)
class DiskUse:
    """Bytes of a store: in all, by asset, and by version as (its own alone, shared)."""

    total: int
    by_asset: dict[str, int]
    by_version: dict[str, tuple[int, int]]


def disk_use(store: ArtifactStore, versions: Iterable[str]) -> DiskUse:
    """Return what the artifacts and frozen documents take up.

    An artifact that several of the store's versions link is shared; what no version links counts
    for its asset only.
    """
    sizes = {
        (path.parent.name, path.name): size_of(path)
        for path in (store.root / "artifacts").glob("*/*")
        if not path.name.startswith(".")
    }
    linked = {
        folder.name: _linked_artifacts(store, folder.name)
        for folder in (store.root / "versions").glob("*")
    }
    users = Counter(artifact for artifacts in linked.values() for artifact in artifacts)
    by_asset: Counter[str] = Counter({"frozen documents": size_of(store.root / "blobs")})
    for (asset, _), size in sizes.items():
        by_asset[asset] += size
    by_version = {}
    for version in versions:
        used = {artifact: sizes.get(artifact, 0) for artifact in linked.get(version, set())}
        own = sum(size for artifact, size in used.items() if users[artifact] == 1)
        by_version[version] = (own, sum(used.values()) - own)
    return DiskUse(size_of(store.root), dict(by_asset), by_version)


def _linked_artifacts(store: ArtifactStore, version: str) -> set[tuple[str, str]]:
    links = (store.root / "versions" / version).glob("*.json")
    return {
        (link["asset"], link["action"])
        for path in links
        for link in [json.loads(path.read_text(encoding="utf-8"))]
    }


def find_garbage(
    store: ArtifactStore, kept_versions: Iterable[str], now: float | None = None
) -> list[Garbage]:
    """Return the artifacts that no kept version links, and what dead runs left in staging.

    Whatever is younger than an hour is left alone: its run may be about to link it. An artifact
    holds every row it was made of, so removing another one costs the kept versions nothing.
    """
    limit = (time.time() if now is None else now) - _IN_FLIGHT_SECONDS
    needed = {
        artifact for version in kept_versions for artifact in _linked_artifacts(store, version)
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
