"""Scores of questions over nodes, and the rankings they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ragft_pipeline.retrieval.metrics import DEPTH
from ragft_pipeline.retrieval.search import top_k


@dataclass(frozen=True)
class Ranking:
    """A system's best nodes for each question of a set, and their scores, best first."""

    nodes: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, depth: int = DEPTH) -> Ranking:
        """Take the best `depth` of a full score matrix."""
        best = top_k(scores, depth)
        return cls(best, np.take_along_axis(scores, best, axis=1))


@dataclass(frozen=True)
class Scores:
    """BM25's and a dense retriever's scores of a block of questions, over the same nodes.

    `nodes` says which, int (questions, candidates); None where the columns are all nodes.
    """

    words: np.ndarray
    dense: np.ndarray
    nodes: np.ndarray | None = None

    def of(self, queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Return the cosines of these questions, by other vectors, over the same nodes."""
        if self.nodes is None:
            return queries @ vectors.T
        rows = [vectors[nodes] @ query for query, nodes in zip(queries, self.nodes)]
        return np.array(rows, np.float32).reshape(self.nodes.shape)

    def best(self, scores: np.ndarray, depth: int = DEPTH) -> Ranking:
        """Return the ranking by scores of these questions and nodes."""
        ranking = Ranking.of(scores, depth)
        if self.nodes is None:
            return ranking
        return Ranking(np.take_along_axis(self.nodes, ranking.nodes, axis=1), ranking.scores)
