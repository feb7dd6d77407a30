"""Housekeeping: what no kept version needs, and how much room things take."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ragft_pipeline.store.artifacts import ArtifactStore

_IN_USE_SECONDS = 86_400.0  # a training may run for hours without a word


@dataclass(frozen=True)
class Garbage:
    """A folder that nothing kept needs and nobody has used since a point in time (epoch)."""

    path: Path
    size: int
    unused_since: float = math.inf


def size_of(path: Path) -> int:
    """Return the bytes of all files below a folder; a file that goes meanwhile counts as none."""
    total = 0
    for folder, _, names in os.walk(path):  # which passes over folders that go
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(folder, name).stat().st_size
    return total


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
    store: ArtifactStore,
    kept_versions: Iterable[str],
    now: float | None = None,
    also_needed: Collection[tuple[str, str]] = (),
) -> list[Garbage]:
    """Return the artifacts that no kept version links, and what dead runs left in staging.

    Artifacts in `also_needed`, pairs of asset and action, stay as well.

    What was used in the last day is left alone, and so is all that a version links to which an
    artifact was linked in the last day: a run may be at work on it. An artifact holds every row
    it was made of, so removing another one costs the kept versions nothing.
    """
    limit = unused_before(now)
    versions = (store.root / "versions").glob("*")
    at_work = {folder.name for folder in versions if folder.stat().st_mtime >= limit}
    needed = {
        artifact
        for version in at_work.union(kept_versions)
        for artifact in _linked_artifacts(store, version)
    }
    needed |= set(also_needed)
    artifacts = (store.root / "artifacts").glob("*/*")
    unlinked = [p for p in artifacts if (p.parent.name, p.name) not in needed]
    staged = [p for p in (store.root / "staging").glob("*") if p.name != "rows"]
    old = [path for path in unlinked if last_used(path) < limit]
    old += [path for path in staged if _changed(path) < limit]
    return [Garbage(path, size_of(path), limit) for path in sorted(old)]


def unused_before(now: float | None = None) -> float:
    """Return the time before which a thing must have been used last to be out of use."""
    return (time.time() if now is None else now) - _IN_USE_SECONDS


def last_used(path: Path) -> float:
    """Return when a path was last used; what is gone by now is in somebody's hands."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _changed(path: Path) -> float:
    """Return when anything at or below a path was last changed."""
    times = [last_used(path)]
    for folder, folders, names in os.walk(path):
        times += [last_used(Path(folder, name)) for name in (*folders, *names)]
    return max(times)


def remove(garbage: Iterable[Garbage]) -> int:
    """Remove the folders, but for those used meanwhile; return the bytes that were freed.

    A folder is renamed out of sight first, so that a reader sees all of it or nothing.
    """
    freed = 0
    for item in garbage:
        if last_used(item.path) >= item.unused_since:
            continue
        hidden = item.path.with_name(f".removed-{item.path.name.removeprefix('.removed-')}")
        try:
            item.path.rename(hidden)
        except FileNotFoundError:  # another clean-up was first
            continue
        shutil.rmtree(hidden, ignore_errors=True)
        freed += item.size
    return freed
