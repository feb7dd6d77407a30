"""When a corpus version's decision is due: once, and again when its documents came back."""

from __future__ import annotations

from ragft_pipeline.corpus.snapshots import Snapshot, SnapshotStore
from ragft_pipeline.serving.history import History, arrivals
from ragft_pipeline.store import ArtifactStore


def is_current(snapshots: SnapshotStore, version: str) -> bool:
    """Whether a version is the corpus as it was frozen last."""
    current = snapshots.current()
    return current is not None and current.version == version


def turn(snapshot: Snapshot) -> str:
    """Return what makes a version's decision due once more: that its documents came back."""
    store = ArtifactStore(snapshot.folder.parents[1])
    entries = History(store).entries()
    times = arrivals(entries, snapshot.version)
    decided = [entry.version for entry in entries if entry.by_pipeline]
    came_back = bool(times) and decided[-1] != snapshot.version
    back = came_back and is_current(SnapshotStore(store), snapshot.version)
    return f"{snapshot.version}, turn {max(1, times + back)}"
