"""First stages: BM25, dense retrievers and their hybrids, ranked block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import DEPTH
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.search import fuse, reciprocal_rank_fusion, top_k

BLOCK = 256


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
    _vectors: dict[tuple[str, tuple[str, ...]], np.ndarray] = field(default_factory=dict)

    def rank(self, questions: QuestionSet, weights: dict[str, float]) -> dict[str, Ranking]:
        """Return the rankings of bm25, every dense retriever, its hybrid and, to compare, its RRF.

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
                    mixed = reciprocal_rank_fusion(dense, words)
                    parts.setdefault(f"rrf({retriever.name})", []).append(Ranking.of(mixed))
        return {
            name: Ranking(
                np.concatenate([part.nodes for part in rankings]),
                np.concatenate([part.scores for part in rankings]),
            )
            for name, rankings in parts.items()
        }

    def scores(
        self, questions: QuestionSet
    ) -> tuple[np.ndarray, Iterator[tuple[DenseRetriever, np.ndarray]]]:
        """Return BM25's scores, and each retriever's: arrays of shape (questions, nodes)."""
        dense = (
            (retriever, self._encoded(retriever, questions) @ retriever.node_vectors.T)
            for retriever in self.retrievers
        )
        return self.lexical.scores(questions.texts), dense

    def _encoded(self, retriever: DenseRetriever, questions: QuestionSet) -> np.ndarray:
        key = (retriever.name, tuple(questions.ids))  # not the name: a part of a set has it too
        if key not in self._vectors:
            self._vectors[key] = retriever.known(questions)
        return self._vectors[key]


def hybrid_name(retriever: str) -> str:
    """Return the name of a retriever's hybrid with BM25."""
    return f"hybrid({retriever})"
