"""Candidates in place of all nodes, for corpora too large to score whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ragft_pipeline.evaluation.ranking import Scores
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import DEPTH, mean_of
from ragft_pipeline.retrieval.nearest import NearestVectors, exact_nearest, recall
from ragft_pipeline.retrieval.search import MIDDLE, fuse, rows_at_once, top_k

_CANDIDATES = 1000  # of the index and of BM25
_FARTHEST = 10


class Recall(NamedTuple):
    """The mean share of the exact 100 best that is found."""

    dense: float
    hybrid: float


class CandidateIndex:
    """Scores a question's best nodes by an approximate index and by BM25; dense scores are exact.

    Args:
        vectors: float32 (nodes, width).
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors
        self._index = NearestVectors(vectors, exact_up_to=0)

    def __str__(self) -> str:
        return str(self._index)

    def tune(
        self, queries: np.ndarray, lexical: LexicalIndex, texts: Sequence[str], share: float
    ) -> Recall:
        """Probe as much as `share` of the exact best takes; return the recall that was reached.

        Args:
            queries, texts: a sample of questions, float32 (questions, width) and in words.
        """
        wanted = exact_nearest(self._vectors, queries, DEPTH)
        dense = self._index.probe_for(queries, wanted, share, _CANDIDATES)
        hybrid = []
        block = rows_at_once(len(self._vectors), len(queries))
        for start in range(0, len(queries), block):
            part = slice(start, start + block)
            words = lexical.scores(texts[part])
            best = top_k(fuse(queries[part] @ self._vectors.T, words, MIDDLE), DEPTH)
            found = self.score(queries[part], words)
            ranking = found.best(fuse(found.dense, found.words, MIDDLE))
            hybrid += [recall(*rows) for rows in zip(ranking.nodes[:, None], best[:, None])]
        return Recall(dense, mean_of(np.array(hybrid)))

    def nearest(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return the `k` nearest nodes of each query, best first."""
        found = np.sort(self._places(queries, _CANDIDATES), axis=1)
        scores = self._dense(queries, found)
        _lower_repeats(found, scores)
        return np.take_along_axis(found, top_k(scores, k), axis=1)

    def score(self, queries: np.ndarray, words: np.ndarray) -> Scores:
        """Return the candidates' scores.

        Args:
            queries: float32 (questions, width).
            words: BM25's scores, float32 (questions, nodes).
        """
        parts = (
            self._places(queries, _CANDIDATES),
            top_k(words, _CANDIDATES),
            self._places(-queries, _FARTHEST),  # so that min-max sees how low scores go
        )
        nodes = np.sort(np.concatenate(parts, axis=1), axis=1)
        dense, own_words = self._dense(queries, nodes), np.take_along_axis(words, nodes, axis=1)
        _lower_repeats(nodes, dense, own_words)
        return Scores(own_words, dense, nodes)

    def _places(self, queries: np.ndarray, k: int) -> np.ndarray:
        found = self._index.search(queries, k)
        return np.where(found < 0, found[:, :1], found)

    def _dense(self, queries: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        parts = [self._vectors[row] @ query for row, query in zip(nodes, queries)]
        return np.stack(parts) if parts else np.zeros(nodes.shape, np.float32)


def _lower_repeats(nodes: np.ndarray, *scores: np.ndarray) -> None:
    """Give a node that is listed twice its scores once, and else the row's lowest.

    Args:
        nodes: ascending in each row.
    """
    again = np.zeros(nodes.shape, bool)
    again[:, 1:] = nodes[:, 1:] == nodes[:, :-1]
    for each in scores:
        np.copyto(each, each.min(axis=1, keepdims=True), where=again)
