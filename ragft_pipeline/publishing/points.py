"""Passages and points: what goes into a store, whichever store it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Point:
    """A passage in a store.

    Attributes:
        id: a UUID of node and family, so that no point of one embedder is taken for another's.
        digest: of all that it is made of; equal digests, equal points. Its first half is of what
            the vectors and terms come from, the second of the rest.
        metadata: what a reader may filter by.
        vector: float32 (width,), of length 1.
        words: ids and weights of its terms; None where the store does not hold them.
        terms: the terms themselves, in order.
        tokens: float32 (tokens, width) for late interaction; None where they are not held.
    """

    id: str
    digest: str
    node_id: str
    doc_key: str
    text: str
    metadata: dict[str, Any]
    vector: np.ndarray
    words: tuple[list[int], list[float]] | None = None
    terms: tuple[str, ...] = ()
    tokens: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Bytes of its vectors, terms and texts."""
        texts = len(self.text.encode()) + sum(len(str(v).encode()) for v in self.metadata.values())
        words = 8 * len(self.words[0]) + sum(len(t) + 1 for t in self.terms) if self.words else 0
        tokens = self.tokens.size * 4 if self.tokens is not None else 0
        return int(self.vector.size * 4 + texts + words + tokens)


@dataclass(frozen=True)
class Passage:
    """A node as it is published: its text, its document, and what is said about both."""

    node_id: str
    doc_key: str
    text: str
    read: str
    metadata: dict[str, Any]
