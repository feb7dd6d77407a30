"""First stages: BM25 and dense retrievers, scored block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ragft_pipeline.evaluation.approximate import CandidateIndex
from ragft_pipeline.evaluation.ranking import Scores
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import DEPTH
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.search import rows_at_once, top_k

BM25 = "bm25"
BASE = "base"  # the base embedder over the passages alone: what everything is compared with
ADAPTER = "adapter"  # maps over these vectors, taught by a teacher who reads what stands above
CONTEXT = "context"  # the base embedder over passages below their titles and headings
BLOCK = 256
_SAMPLE = 128  # questions that an approximate index is measured on


@dataclass(frozen=True)
class DenseRetriever:
    """A dense retriever: the vectors of all nodes, and how a question becomes a vector.

    `encode` does the work each time; `known` returns a set's vectors, encoded once for ever.
    `lexical` is BM25 over the texts that the vectors are of.
    """

    name: str
    node_vectors: np.ndarray
    encode: Callable[[Sequence[str]], np.ndarray]
    known: Callable[[QuestionSet], np.ndarray]
    lexical: LexicalIndex


@dataclass
class FirstStages:
    """First stages' scores of a set of questions, block by block.

    Above `exact_up_to` nodes a dense retriever and its hybrids rank candidates: the best by an
    approximate index and by BM25. The index is probed until `recall` of the first questions' best
    100 are found; `index_facts` says what was reached.
    """

    node_texts: Sequence[str]
    lexical: LexicalIndex
    retrievers: Sequence[DenseRetriever]
    exact_up_to: int = 2_000_000
    recall: float = 0.98
    index_facts: dict[str, float | str] = field(default_factory=dict)
    _vectors: dict[tuple[str, tuple[str, ...]], np.ndarray] = field(default_factory=dict)
    _indexes: dict[str, CandidateIndex] = field(default_factory=dict)

    def blocks(
        self, questions: QuestionSet
    ) -> Iterator[tuple[slice, np.ndarray, Iterator[tuple[DenseRetriever, Scores]]]]:
        """Yield blocks of questions: which, BM25's scores (questions, nodes), each retriever's."""
        for retriever in self.retrievers:
            self._prepare(retriever, questions)
        size = rows_at_once(len(self.node_texts), BLOCK)
        for start in range(0, len(questions), size):
            block = slice(start, start + size)
            asked = questions.texts[block]
            words = {self.lexical: self.lexical.scores(asked)}
            for lexical in {each.lexical for each in self.retrievers} - words.keys():
                words[lexical] = lexical.scores(asked)
            scored = (
                (each, self.score(each, self.encoded(each, questions)[block], words[each.lexical]))
                for each in self.retrievers
            )
            yield block, words[self.lexical], scored

    def score(self, retriever: DenseRetriever, queries: np.ndarray, words: np.ndarray) -> Scores:
        """Return a retriever's scores of some questions beside BM25's over all nodes.

        Args:
            queries: float32 (questions, width).
            words: of the retriever's `lexical`, float32 (questions, nodes).
        """
        index = self._indexes.get(retriever.name)
        if index is not None:
            return index.score(queries, words)
        return Scores(words, queries @ retriever.node_vectors.T)

    def nearest(self, retriever: DenseRetriever, queries: np.ndarray) -> np.ndarray:
        """Return the best nodes of some questions by a dense retriever alone."""
        index = self._indexes.get(retriever.name)
        if index is not None:
            return index.nearest(queries, DEPTH)
        return top_k(queries @ retriever.node_vectors.T, DEPTH)

    def _prepare(self, retriever: DenseRetriever, questions: QuestionSet) -> None:
        if len(self.node_texts) <= self.exact_up_to or retriever.name in self._indexes:
            return
        index = CandidateIndex(retriever.node_vectors)
        queries = self.encoded(retriever, questions)[:_SAMPLE]
        reached = index.tune(queries, retriever.lexical, questions.texts[:_SAMPLE], self.recall)
        self._indexes[retriever.name] = index
        self.index_facts |= {
            f"index_{retriever.name}": str(index),
            f"recall_at_{DEPTH}_{retriever.name}": reached.dense,
            f"recall_at_{DEPTH}_{hybrid_name(retriever.name)}": reached.hybrid,
        }

    def encoded(self, retriever: DenseRetriever, questions: QuestionSet) -> np.ndarray:
        """Return a set's vectors, float32 (questions, width)."""
        key = (retriever.name, tuple(questions.ids))  # not the name: a part of a set has it too
        if key not in self._vectors:
            self._vectors[key] = retriever.known(questions)
        return self._vectors[key]


def hybrid_name(retriever: str) -> str:
    """Return the name of a retriever's hybrid with BM25."""
    return f"hybrid({retriever})"
