"""The systems that are compared: BM25, dense retrievers, their hybrids, and reranked hybrids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ragft_pipeline.evaluation.question_sets import QuestionSet
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import (
    DEPTH,
    PRIMARY,
    score_rankings,
    smallest_sufficient,
)
from ragft_pipeline.retrieval.reranking import Reranker, blend
from ragft_pipeline.retrieval.search import fuse, top_k
from ragft_pipeline.store import Workspace, digest_of

BLOCK = 256
_PAIR_SCORES = pa.schema([("row_key", pa.string()), ("score", pa.float32())])


@dataclass(frozen=True)
class DenseRetriever:
    """A dense retriever: the vectors of all nodes, and how a question becomes a vector.

    `encode` does the work each time; `known` returns a set's vectors, encoded once for ever.
    """

    name: str
    node_vectors: np.ndarray
    encode: Callable[[Sequence[str]], np.ndarray]
    known: Callable[[QuestionSet], np.ndarray]


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


@dataclass
class FirstStages:
    """First-stage rankings over a set of questions, block by block."""

    node_texts: Sequence[str]
    lexical: LexicalIndex
    retrievers: Sequence[DenseRetriever]
    _vectors: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def rank(self, questions: QuestionSet, weights: dict[str, float]) -> dict[str, Ranking]:
        """Return the rankings of bm25, every dense retriever and its hybrid.

        Args:
            weights: dense weight of each retriever's hybrid; a retriever without one gets none.
        """
        parts: dict[str, list[Ranking]] = {}
        for start in range(0, len(questions), BLOCK):
            block = slice(start, start + BLOCK)
            words = self.lexical.scores(questions.texts[block])
            parts.setdefault("bm25", []).append(Ranking.of(words))
            for retriever in self.retrievers:
                dense = self._encoded(retriever, questions)[block] @ retriever.node_vectors.T
                parts.setdefault(retriever.name, []).append(Ranking.of(dense))
                if retriever.name in weights:
                    mixed = fuse(dense, words, weights[retriever.name])
                    parts.setdefault(hybrid_name(retriever.name), []).append(Ranking.of(mixed))
        return {
            name: Ranking(
                np.concatenate([part.nodes for part in rankings]),
                np.concatenate([part.scores for part in rankings]),
            )
            for name, rankings in parts.items()
        }

    def choose_weights(self, questions: QuestionSet, grid: Sequence[float]) -> dict[str, float]:
        """Return for each retriever the dense weight with the best nDCG@10 on choosing questions.

        Of equally good weights the one nearest to the middle of their range.
        """
        if not len(questions):
            return {retriever.name: 0.5 for retriever in self.retrievers}
        words = self.lexical.scores(questions.texts)
        chosen = {}
        for retriever in self.retrievers:
            dense = self._encoded(retriever, questions) @ retriever.node_vectors.T
            means = [
                score_rankings(top_k(fuse(dense, words, weight), DEPTH), questions.relevant)[
                    PRIMARY
                ].mean()
                for weight in grid
            ]
            best = np.flatnonzero(np.isclose(means, max(means), atol=1e-4))
            chosen[retriever.name] = float(grid[best[len(best) // 2]])
        return chosen

    def _encoded(self, retriever: DenseRetriever, questions: QuestionSet) -> np.ndarray:
        key = (retriever.name, questions.name)
        if key not in self._vectors:
            self._vectors[key] = retriever.known(questions)
        return self._vectors[key]


def hybrid_name(retriever: str) -> str:
    """Return the name of a retriever's hybrid with BM25."""
    return f"hybrid({retriever})"


def reranked_name(first_stage: str) -> str:
    """Return the name of a first stage with the reranker's scores mixed in."""
    return f"{first_stage} + reranker"


def rerank_alone_name(first_stage: str) -> str:
    """Return the name of a first stage ordered by the reranker's scores alone."""
    return f"{first_stage} + reranker alone"


@dataclass
class PairScores:
    """Reranker scores of (question, node) pairs, each computed once whatever stage asks.

    A pair's score is a row: a version with the same reranker computes new pairs only.
    """

    reranker: Reranker
    node_texts: Sequence[str]
    work: Workspace
    _scores: dict[tuple[str, int], float] = field(default_factory=dict)

    def ensure(self, questions: QuestionSet, candidates: Sequence[np.ndarray]) -> None:
        """Score what is missing of the candidates (arrays of shape (questions, depth))."""
        wanted = [
            (row, int(node))
            for row in range(len(questions))
            for node in np.unique(np.concatenate([nodes[row] for nodes in candidates]))
            if (questions.ids[row], int(node)) not in self._scores
        ]
        pairs = {
            (questions.ids[row], node): (questions.texts[row], self.node_texts[node])
            for row, node in wanted
        }
        keys = {pair: digest_of(*texts)[:32] for pair, texts in pairs.items()}

        def score(batch: Sequence[tuple[str, int]]) -> pa.Table:
            values = self.reranker.score([pairs[pair] for pair in batch])
            return pa.table({"row_key": [keys[pair] for pair in batch], "score": values})

        cache = self.work.rows("pair_scores", self.reranker.identity, _PAIR_SCORES)
        rows = cache.complete(list(pairs), keys.__getitem__, score, batch_size=1024)
        by_key = dict(zip(rows.column("row_key").to_pylist(), rows.column("score").to_pylist()))
        self._scores |= {pair: by_key[key] for pair, key in keys.items()}

    def matrix(self, questions: QuestionSet, nodes: np.ndarray) -> np.ndarray:
        """Return the scores of candidates, shape (questions, depth); `ensure` them first."""
        return np.array(
            [[self._scores[(qid, int(n))] for n in row] for qid, row in zip(questions.ids, nodes)],
            dtype=np.float32,
        ).reshape(nodes.shape)


def rerank(first: Ranking, scores: np.ndarray, weight: float, depth: int) -> Ranking:
    """Reorder the top `depth` by the blend of both scores; what lies below keeps its order."""
    mixed = blend(first.scores[:, :depth], scores, weight)
    order = np.argsort(-mixed, axis=1, kind="stable")
    nodes = np.concatenate(
        [np.take_along_axis(first.nodes[:, :depth], order, axis=1), first.nodes[:, depth:]], axis=1
    )
    tail = first.scores[:, depth:]
    return Ranking(nodes, np.concatenate([np.take_along_axis(mixed, order, axis=1), tail], axis=1))


def choose_blend(
    questions: QuestionSet, first: Ranking, scores: np.ndarray, grid: Sequence[float], depth: int
) -> float:
    """Return the reranker's weight: the smallest that choosing questions cannot tell from the best.

    0 leaves the reranker out.
    """
    weights = (0.0, *sorted(grid))
    rankings = [rerank(first, scores, weight, depth) for weight in weights]
    results = [score_rankings(ranking.nodes, questions.relevant)[PRIMARY] for ranking in rankings]
    return float(weights[smallest_sufficient(weights, results)])
