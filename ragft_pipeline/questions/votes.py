"""Votes on passages that were served: up or down, by whoever asked.

They say what to judge first, and their questions are a log; a vote is no label, so none of them
trains or tests by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragft_pipeline.questions.log import question_id
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.journal import Journal


def votes_file(store: ArtifactStore) -> Path:
    """Return where this machine keeps the votes of a store, as JSON lines."""
    return store.root / "questions" / "votes.jsonl"


@dataclass(frozen=True)
class Vote:
    """One vote.

    Attributes:
        bundle: the digest of what answered, which may be served no longer.
        vote_id: the sender's own name for it: sent again, it is the same vote.
    """

    question: str
    node_id: str
    up: bool
    bundle: str
    vote_id: str = ""


class Votes:
    """The votes of a store; an object may be used by many threads.

    Args:
        most_bytes: of the file.
    """

    def __init__(self, store: ArtifactStore, most_bytes: int) -> None:
        self._journal = Journal(votes_file(store), most_bytes)

    def add(self, vote: Vote) -> None:
        """Keep a vote; it is on the disk when this returns. RagftError where there is no room."""
        self._journal.append({**vars(vote), "time": time.time()})


def read_votes(store: ArtifactStore) -> list[dict[str, Any]]:
    """Return the votes in the order they came; of one that was sent again, the first."""
    rows = Journal(votes_file(store)).read()
    seen: set[str] = set()
    found = []
    for row in rows:
        name = row.get("vote_id", "")
        if name not in seen:
            found.append(row)
        if name:
            seen.add(name)
    return found


def urgency(votes: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return by question id how much the votes ask for a judgement: a down counts as two ups."""
    found: dict[str, int] = {}
    for vote in votes:
        name = question_id(vote["question"])
        found[name] = found.get(name, 0) + (1 if vote["up"] else 2)
    return found
