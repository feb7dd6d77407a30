"""When a corpus version's decision is due: once it is the corpus, and again when it comes back."""

from __future__ import annotations

from ragft_pipeline.corpus.snapshots import Snapshot, SnapshotStore


def is_current(snapshots: SnapshotStore, version: str) -> bool:
    """Whether a version is the corpus as it was frozen last."""
    current = snapshots.current()
    return current is not None and current.version == version


def turn(snapshot: Snapshot) -> str:
    """Return the identity of a version's decision: how often the corpus has come to it by now.

    The freezes are counted, not the history's entries: a decision that leaves all as it is has no
    entry, and a person's say nothing of where the documents went.
    """
    arrivals = SnapshotStore(snapshot.store).arrivals(snapshot.version)
    return f"{snapshot.version}, turn {arrivals}"
