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

from ragft_pipeline.store.artifacts import CARD, ArtifactStore
from ragft_pipeline.store.life import is_in_use, made_for
from ragft_pipeline.store.listing import linked_versions, published_artifacts
from ragft_pipeline.store.publications import Publications

_IN_USE_SECONDS = 86_400.0
_ROWS_SECONDS = 30 * 86_400.0  # what a killed run computed may have been dear


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
    """Return what the kept versions use, and those that were given something in the last day.

    Those that a process of this machine makes something for count as well, for however long.
    """
    limit = unused_before(now)
    busy = {version for version, last in linked_versions(store).items() if last >= limit}
    busy |= {made_for(path) for path in _staged(store) if is_in_use(path)}
    return {
        artifact
        for version in busy.union(kept_versions)
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
    artifact was linked in the last day, or is being made: a run may be at work on it. An artifact
    holds every row it was made of, so removing another one costs the kept versions nothing. Rows
    that a killed run left go once its asset was completed without them, or after a month.
    """
    limit = unused_before(now)
    needed = needed_artifacts(store, kept_versions, now) | set(also_needed)
    artifacts = (store.root / "artifacts").glob("*/*")
    unlinked = [p for p in artifacts if (p.parent.name, p.name) not in needed]
    trainings = (store.root / "staging" / "training").glob("*")
    staged = [path for path in (*_staged(store), *trainings) if not is_in_use(path)]
    singles = (store.root / "singles").glob("*/*/*")
    old = [path for path in (*unlinked, *singles) if last_used(path) < limit]
    old += [path for path in staged if _changed(path) < limit]
    old += _rows_given_up(store, limit)
    return [Garbage(path, size_of(path), limit) for path in sorted(old)]


def _staged(store: ArtifactStore) -> list[Path]:
    apart = ("rows", "training")
    return [path for path in (store.root / "staging").glob("*") if path.name not in apart]


def _rows_given_up(store: ArtifactStore, limit: float) -> list[Path]:
    """Return the folders of staged rows that no run picks up again.

    A run that looks for rows marks their folder. So where an asset was completed after its folder
    was last looked at, it was under other settings, or had no use for them.
    """
    completed: dict[str, float] = {}

    def since(asset: str) -> float:
        if asset not in completed:
            cards = (store.root / "artifacts" / asset).glob(f"*/{CARD}")
            completed[asset] = max((last_used(card) for card in cards), default=0.0)
        return completed[asset]

    given_up = []
    for folder in (store.root / "staging" / "rows").glob("*"):
        used = last_used(folder)
        makers = {path.name.partition(".")[0] for path in folder.glob("*.parquet")}
        done = all(since(asset) > used for asset in makers)
        if used < limit and (done or used < limit - _ROWS_SECONDS + _IN_USE_SECONDS):
            given_up.append(folder)
    return given_up


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
