"""Housekeeping: what no kept version needs, and how much room things take."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator
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


Files = dict[Hashable, int]  # bytes of files by what they are, whatever names they have


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Yield what the system knows of a file, or of all below a folder; what goes is left out."""
    folders = os.walk(path) if path.is_dir() else [(str(path.parent), [], [path.name])]
    for folder, _, names in folders:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield Path(folder, name).stat()


def files_of(path: Path) -> Files:
    """Return a file, or all below a folder, by inode."""
    return {(facts.st_dev, facts.st_ino): facts.st_size for facts in _stats(path)}


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all below a folder, a file of several names once."""
    return sum(files_of(path).values())


def garbage_of(paths: Iterable[Path], unused_since: float = math.inf) -> list[Garbage]:
    """Return paths with what their removal frees: a segment goes with the last of its names."""
    names: Counter[Hashable] = Counter()

    def freed(facts: os.stat_result) -> int:
        file = (facts.st_dev, facts.st_ino)
        names[file] += 1
        return facts.st_size if names[file] == facts.st_nlink else 0

    return [Garbage(path, sum(map(freed, _stats(path))), unused_since) for path in paths]


@dataclass(frozen=True)
class DiskUse:
    """Bytes of a store: in all, by asset, and by version as (its own alone, shared)."""

    total: int
    by_asset: dict[str, int]
    by_version: dict[str, tuple[int, int]]


def disk_use(store: ArtifactStore, versions: Iterable[str]) -> DiskUse:
    """Return what the artifacts and frozen documents take up.

    A file that several of the store's versions use is shared, and counts for the first asset that
    holds it; what no version uses counts for its asset only.
    """
    if store.publications is not None:
        return _remote_use(store, store.publications, versions)
    files = {
        (path.parent.name, path.name): files_of(path)
        for path in sorted((store.root / "artifacts").glob("*/*"))
        if not path.name.startswith(".")
    }
    texts = size_of(store.root / "blobs")
    return _disk_use(store, versions, files, texts, size_of(store.root))


def _remote_use(
    store: ArtifactStore, publications: Publications, versions: Iterable[str]
) -> DiskUse:
    names = {tuple(n.split("/")): m for n, m in published_artifacts(store, publications).items()}
    files: dict[tuple[str, str], Files] = {
        (asset, action): {sha: size for size, sha in manifest.files.values()}
        for (_, asset, action), manifest in names.items()
    }
    everything = publications.remote.listed("")
    texts = sum(entry.size for name, entry in everything.items() if name.startswith("blobs/"))
    total = sum(entry.size for entry in everything.values())
    return _disk_use(store, versions, files, texts, total)


def _disk_use(
    store: ArtifactStore,
    versions: Iterable[str],
    files: dict[tuple[str, str], Files],
    texts: int,
    total: int,
) -> DiskUse:
    by_asset: Counter[str] = Counter({"frozen documents": texts})
    seen: Files = {}
    for (asset, _), own in files.items():
        by_asset[asset] += sum(size for file, size in own.items() if file not in seen)
        seen |= own
    used: dict[str, Files] = {}
    for version in linked_versions(store):
        used[version] = {}
        for artifact in linked_artifacts(store, version):
            used[version] |= files.get(artifact, {})
    users = Counter(file for own in used.values() for file in own)
    by_version = {}
    for version in versions:
        sizes = used.get(version, {})
        alone = sum(size for file, size in sizes.items() if users[file] == 1)
        by_version[version] = (alone, sum(sizes.values()) - alone)
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
    return garbage_of(sorted(old), limit)


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
