"""Whether people are judging right now: a version frozen meanwhile would be half of their work."""

from __future__ import annotations

import fcntl
from typing import TextIO

from ragft_pipeline.store import ArtifactStore


def open_hold(store: ArtifactStore) -> TextIO:
    """Return an open file that says, while it is open, that people are judging over a store.

    It goes with the process, however that ends.
    """
    path = store.root / "questions" / ".judging"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w", encoding="utf-8")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def being_judged(store: ArtifactStore) -> bool:
    """Say whether people are judging over a store on this machine."""
    path = store.root / "questions" / ".judging"
    if not path.is_file():
        return False
    with path.open("r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
