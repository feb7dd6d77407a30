"""Scores of questions over nodes, the rankings they give, and what these are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ragft_pipeline.retrieval.metrics import DEPTH, PRIMARY, pooled_scores, score_rankings
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
        return Ranking(self.named(ranking.nodes), ranking.scores)

    def named(self, columns: np.ndarray) -> np.ndarray:
        """Return the nodes that some columns of each question are."""
        return columns if self.nodes is None else np.take_along_axis(self.nodes, columns, axis=1)


@dataclass(frozen=True)
class Found:
    """What rankings are worth: every metric of each question, and its best ten nodes.

    Attributes:
        scores: float (questions,) by metric, `first_rank`, and those of `pooled_scores`.
        top: int (questions, up to 10).
    """

    scores: dict[str, np.ndarray]
    top: np.ndarray

    @classmethod
    def of(cls, nodes: np.ndarray, judged: Sequence[Mapping[int, int]]) -> Found:
        """Score rankings, int (questions, up to 100), best first, by the grades of their nodes."""
        scores = score_rankings(nodes, judged) | pooled_scores(nodes, judged)
        return cls(scores, nodes[:, :10])

    @classmethod
    def joined(cls, parts: Sequence[Found], places: Sequence[np.ndarray]) -> Found:
        """Return parts of a set as one, each in its places."""
        order = np.argsort(np.concatenate(places))
        scores = {
            name: np.concatenate([part.scores[name] for part in parts])[order]
            for name in parts[0].scores
        }
        return cls(scores, np.concatenate([part.top for part in parts])[order])

    @property
    def primary(self) -> np.ndarray:
        """nDCG@10 of each question."""
        return self.scores[PRIMARY]

    def at(self, rows: np.ndarray) -> Found:
        """Return the part of some questions."""
        return Found({name: one[rows] for name, one in self.scores.items()}, self.top[rows])
