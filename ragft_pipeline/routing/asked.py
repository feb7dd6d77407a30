"""Questions put to a router: their right nodes and tools, and what searching some tools finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import DEPTH, PRIMARY, score_rankings
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.search import MIDDLE, fuse, top_k
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.routing.catalog import ToolDocument
from ragft_pipeline.store import Workspace


@dataclass(frozen=True)
class Passages:
    """The nodes below the tools, as the untuned hybrid searches them.

    Attributes:
        node_ids, vectors, lexical: the nodes, the base embedder's vectors of them, BM25.
        of_tool: each tool's nodes, in reading order, as places.
    """

    node_ids: list[str]
    vectors: np.ndarray
    lexical: LexicalIndex
    of_tool: list[np.ndarray]

    @classmethod
    def of(cls, documents: Sequence[ToolDocument], encoder: Encoder, work: Workspace) -> Passages:
        """Index the documents' nodes."""
        pairs = {node: text for one in documents for node, text in zip(one.node_ids, one.texts)}
        texts = dict(sorted(pairs.items()))
        node_ids, vectors = cached_vectors(work, encoder, texts, "document")
        place = {node_id: at for at, node_id in enumerate(node_ids)}
        of_tool = [np.array([place[node_id] for node_id in one.node_ids]) for one in documents]
        return cls(node_ids, vectors, LexicalIndex(list(texts.values())), of_tool)

    @property
    def column(self) -> dict[str, int]:
        """The place of each node."""
        return {node_id: place for place, node_id in enumerate(self.node_ids)}

    def search_all(self, dense: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Return the untuned hybrid's rankings over all nodes, of shape (questions, depth)."""
        return top_k(fuse(dense, words, MIDDLE), DEPTH)

    def search_within(
        self, dense: np.ndarray, words: np.ndarray, tools: Sequence[int], kinds: Sequence[str]
    ) -> np.ndarray:
        """Return one question's ranking of some tools' nodes by some kinds of index.

        Args:
            dense, words: the question's scores of all nodes.
            tools: where to search, best first.
            kinds: `vector` and `keyword` together are the hybrid; `summary` alone is the nodes in
                reading order, tool by tool.
        """
        nodes = np.concatenate([self.of_tool[tool] for tool in tools])
        nodes = nodes[np.sort(np.unique(nodes, return_index=True)[1])]
        if set(kinds) == {"summary"}:
            return nodes[:DEPTH]
        weight = {"vector": 1.0, "keyword": 0.0}
        chosen = [weight[kind] for kind in kinds if kind in weight]
        mixed = fuse(dense[None, nodes], words[None, nodes], sum(chosen) / len(chosen))
        return np.asarray(nodes[top_k(mixed, DEPTH)[0]])


@dataclass(frozen=True)
class Asked:
    """A set of questions with vectors, and the tools that hold an answer to each.

    Attributes:
        questions: their relevant nodes are places in `Passages`.
        vectors: the base embedder's, float32 (questions, width).
        tools: the places of the right tools of each.
    """

    questions: QuestionSet
    vectors: np.ndarray
    tools: list[frozenset[int]]

    @classmethod
    def of(
        cls, questions: QuestionSet, passages: Passages, encoder: Encoder, work: Workspace
    ) -> Asked:
        """Take a question set over the passages' nodes."""
        owners: dict[int, set[int]] = {}
        for tool, nodes in enumerate(passages.of_tool):
            for node in nodes.tolist():
                owners.setdefault(node, set()).add(tool)
        tools = [
            frozenset(tool for node in nodes for tool in owners[node])
            for nodes in questions.relevant
        ]
        _, vectors = cached_vectors(work, encoder, questions.by_id(), "query")
        return cls(questions, vectors, tools)

    def __len__(self) -> int:
        return len(self.questions)

    def at(self, places: Iterable[int]) -> Asked:
        """Return the questions at some places, in their order."""
        rows = list(places)
        tools = [self.tools[row] for row in rows]
        return Asked(self.questions.at(rows), self.vectors[rows], tools)

    def first_ranks(self, rankings: np.ndarray) -> np.ndarray:
        """Return the rank of each question's first right tool, from 1; 0 where it is not ranked."""
        return np.array(
            [
                next((at for at, tool in enumerate(row, 1) if tool in right), 0)
                for row, right in zip(rankings.tolist(), self.tools)
            ],
            dtype=np.int64,
        )

    def reciprocal_ranks(self, rankings: np.ndarray) -> np.ndarray:
        """Return one through the rank of each question's first right tool, 0 without one."""
        ranks = self.first_ranks(rankings)
        return np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0)


class SearchedTools:
    """What searching some tools, or all of them, is worth to each question; no search is repeated.

    All values are nDCG@10 of the untuned hybrid.
    """

    def __init__(self, asked: Asked, passages: Passages) -> None:
        self._asked = asked
        self._passages = passages
        self._known: dict[tuple[int, tuple[int, ...], tuple[str, ...]], float] = {}

    @cached_property
    def _scores(self) -> tuple[np.ndarray, np.ndarray]:
        dense = self._asked.vectors @ self._passages.vectors.T
        return dense, self._passages.lexical.scores(self._asked.questions.texts)

    @cached_property
    def whole(self) -> np.ndarray:
        """Of searching everything, float (questions,)."""
        return ndcg(list(self._passages.search_all(*self._scores)), self._asked.questions)

    def within(
        self,
        tools: Sequence[Sequence[int]],
        kinds: Sequence[Sequence[str]],
        places: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Return what searching each question's tools by its kinds is worth.

        Args:
            places: of the questions; all where none are given.
        """
        rows = range(len(self._asked)) if places is None else places
        wanted = [(row, tuple(t), tuple(k)) for row, t, k in zip(rows, tools, kinds)]
        new = [key for key in dict.fromkeys(wanted) if key not in self._known]
        if new:
            dense, words = self._scores
            rankings = [
                self._passages.search_within(dense[row], words[row], own, kind)
                for row, own, kind in new
            ]
            questions = self._asked.questions.at([row for row, _, _ in new])
            self._known.update(zip(new, ndcg(rankings, questions).tolist()))
        return np.array([self._known[key] for key in wanted], float)


def ndcg(rankings: Sequence[np.ndarray], questions: QuestionSet) -> np.ndarray:
    """Return nDCG@10 of rankings of any lengths."""
    padded = np.full((len(rankings), DEPTH), -1, np.int64)
    for row, ranking in enumerate(rankings):
        padded[row, : len(ranking)] = ranking
    return score_rankings(padded, questions.relevant)[PRIMARY]
