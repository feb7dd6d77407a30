"""Drafts: what a generator writes about one node, before any filter; the unit of row reuse."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ragft_pipeline.corpus.nodes import nearest_heading

IMPORTED = "imported"  # the kind of a question that a team wrote, of which several nodes may answer
DRAFTS_SCHEMA = pa.schema(
    [
        ("row_key", pa.string()),
        (
            "drafts",
            pa.list_(
                pa.struct(
                    [
                        ("question", pa.string()),
                        ("kind", pa.string()),
                        ("start", pa.int64()),
                        ("end", pa.int64()),
                    ]
                )
            ),
        ),
        ("llm_calls", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
    ]
)


def random_of(node_id: str, purpose: str) -> random.Random:
    """Return random numbers that depend on a node alone."""
    return random.Random(f"{node_id}:{purpose}")


@dataclass(frozen=True)
class SourceNode:
    """A node as generators see it: what they may read, and nothing corpus-wide."""

    node_id: str
    text: str
    title: str
    heading: str
    first: bool

    @classmethod
    def from_row(cls, row: Mapping[str, Any], first: bool) -> SourceNode:
        """Take a row of the NODES table; `first` says that its document begins with it."""
        return cls(row["node_id"], row["text"], row["title"], nearest_heading(row), first)

    def random(self, purpose: str) -> random.Random:
        """Return random numbers that depend on this node alone."""
        return random_of(self.node_id, purpose)


@dataclass(frozen=True)
class Draft:
    """A question as written; `start` and `end` mark its answer in the node's text."""

    question: str
    kind: str
    start: int
    end: int


def draft_row(row_key: str, drafts: Sequence[Draft], **cost: int) -> dict[str, Any]:
    """Return one row of DRAFTS_SCHEMA; `cost` is llm_calls, prompt_tokens, completion_tokens."""
    zero = {"llm_calls": 0, "prompt_tokens": 0, "completion_tokens": 0}
    return {"row_key": row_key, "drafts": [vars(draft) for draft in drafts], **zero, **cost}
