"""Housekeeping: what no kept version needs, and how much room things take."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ragft_pipeline.store.artifacts import ArtifactStore
from ragft_pipeline.store.listing import linked_versions, published_artifacts
from ragft_pipeline.store.publications import Publications

_IN_USE_SECONDS = 86_400.0  # a training may run for hours without a word


@dataclass(frozen=True)
class Garbage:
    """A folder that nothing kept needs and nobody has used since a point in time (epoch)."""

    path: Path
    size: int
    unused_since: float = math.inf


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all below a folder; what goes meanwhile counts as none."""
    total = 0
    if path.is_file():
        return path.stat().st_size
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
    if store.publications is not None:
        return _remote_use(store, store.publications, versions)
    sizes = {
        (path.parent.name, path.name): size_of(path)
        for path in (store.root / "artifacts").glob("*/*")
        if not path.name.startswith(".")
    }
    texts = size_of(store.root / "blobs")
    return _disk_use(store, versions, sizes, texts, size_of(store.root))


def _remote_use(
    store: ArtifactStore, publications: Publications, versions: Iterable[str]
) -> DiskUse:
    names = {tuple(n.split("/")): m for n, m in published_artifacts(store, publications).items()}
    sizes = {(asset, action): manifest.size for (_, asset, action), manifest in names.items()}
    everything = publications.remote.listed("")
    texts = sum(entry.size for name, entry in everything.items() if name.startswith("blobs/"))
    total = sum(entry.size for entry in everything.values())
    return _disk_use(store, versions, sizes, texts, total)


def _disk_use(
    store: ArtifactStore,
    versions: Iterable[str],
    sizes: dict[tuple[str, str], int],
    texts: int,
    total: int,
) -> DiskUse:
    linked = {version: linked_artifacts(store, version) for version in linked_versions(store)}
    users = Counter(artifact for artifacts in linked.values() for artifact in artifacts)
    by_asset: Counter[str] = Counter({"frozen documents": texts})
    for (asset, _), size in sizes.items():
        by_asset[asset] += size
    by_version = {}
    for version in versions:
        used = {artifact: sizes.get(artifact, 0) for artifact in linked.get(version, set())}
        own = sum(size for artifact, size in used.items() if users[artifact] == 1)
        by_version[version] = (own, sum(used.values()) - own)
    return DiskUse(total, dict(by_asset), by_version)


def linked_artifacts(store: ArtifactStore, version: str) -> set[tuple[str, str]]:
    """Return the asset and the action of all that a version uses."""
    return {(link.asset, link.action) for link in store.links(version).values()}


def needed_artifacts(
    store: ArtifactStore, kept_versions: Iterable[str], now: float | None = None
) -> set[tuple[str, str]]:
    """Return what the kept versions use, and those that were given something in the last day."""
    limit = unused_before(now)
    at_work = {version for version, last in linked_versions(store).items() if last >= limit}
    return {
        artifact
        for version in at_work.union(kept_versions)
        for artifact in linked_artifacts(store, version)
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
    needed = needed_artifacts(store, kept_versions, now) | set(also_needed)
    artifacts = (store.root / "artifacts").glob("*/*")
    unlinked = [p for p in artifacts if (p.parent.name, p.name) not in needed]
    staged = [p for p in (store.root / "staging").glob("*") if p.name != "rows"]
    singles = (store.root / "singles").glob("*/*/*")
    old = [path for path in (*unlinked, *singles) if last_used(path) < limit]
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
        if hidden.is_file():
            hidden.unlink()
        shutil.rmtree(hidden, ignore_errors=True)
        freed += item.size
    return freed
