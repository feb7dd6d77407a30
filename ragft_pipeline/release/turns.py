"""When a corpus version's decision is due: once it is the corpus, and again when it comes back."""

from __future__ import annotations

from ragft_pipeline.corpus.snapshots import Snapshot, SnapshotStore
from ragft_pipeline.serving.history import History, arrivals


def is_current(snapshots: SnapshotStore, version: str) -> bool:
    """Whether a version is the corpus as it was frozen last."""
    current = snapshots.current()
    return current is not None and current.version == version


def turn(snapshot: Snapshot) -> str:
    """Return the identity of a version's decision: how often the corpus has come to it by now."""
    entries = History(snapshot.store).entries()
    decided = [entry.version for entry in entries if entry.by_pipeline]
    due = not decided or decided[-1] != snapshot.version
    number = arrivals(entries, snapshot.version)
    number += due and is_current(SnapshotStore(snapshot.store), snapshot.version)
    return f"{snapshot.version}, turn {number}"
