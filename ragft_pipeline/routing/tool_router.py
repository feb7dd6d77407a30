"""A router over its tools, for one question at a time: what an application holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ragft_pipeline.retrieval.encoder import Kind
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.nearest import EXACT_UP_TO, NearestVectors
from ragft_pipeline.retrieval.reranking import PairScorer
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.routing.catalog import KINDS
from ragft_pipeline.routing.reordering import with_second_opinion
from ragft_pipeline.routing.router import Route, Router, shares
from ragft_pipeline.routing.tool_index import ToolIndex

_NEIGHBOURS = 256  # vectors, and tools by their words, that are looked at in a large catalog


class ToolRouter:
    """Routes questions; it never changes. Several threads may share it as far as `encode` and
    `scorer` let them.

    Args:
        router: how to choose.
        index: what to choose among; not only the tools that it was trained on.
        encode: makes base vectors of texts of a kind, `query` or `document`, float32
            (texts, width).
        scorer: whose second opinion the router was calibrated with, where it counts on one.
        exact_up_to: vectors that are compared one by one at most.

    A catalog with more vectors than `NearestVectors` compares one by one is searched for
    candidates first, by vectors and by words; these are scored as all are in a small one, with
    8 bits a number.
    """

    def __init__(
        self,
        router: Router,
        index: ToolIndex,
        encode: Callable[[Sequence[str], Kind], np.ndarray],
        scorer: PairScorer | None = None,
        exact_up_to: int = EXACT_UP_TO,
    ) -> None:
        self.router = router
        self._encode = encode
        self._scorer = scorer if router.second_opinion else None
        self._nearest = NearestVectors(index.vectors, router.adapter.documents, exact_up_to)
        # a large catalog's vectors are not kept twice
        self.index = index if self._nearest.exact else replace(index, vectors=index.vectors[:0])
        self._owner = np.repeat(np.arange(len(index)), np.diff(index.starts))
        index.lexical.scores([""])  # builds the index now, not at the first question

    def __len__(self) -> int:
        return len(self.index)

    def route(self, question: str) -> Route:
        """Return where a question goes."""
        asked = self._encode([question], "query")
        query = self.router.adapter.queries(asked)
        words = self.index.lexical.scores([question])
        if self._nearest.exact:
            tools = np.arange(len(self))
            dense = self.index.dense(query, self._nearest.vectors)
        else:
            tools = self._candidates(query, words)
            dense = self._dense_of(query, tools)
            words = words[:, tools]
        scores = self.router.scores(dense, words)
        if self._scorer is not None:
            scores = self._second_opinion(question, query, tools, scores, self._scorer)
        best, confidences = self.router.confidences(scores)
        kinds = self.router.kinds.shares(asked, [question])
        return self.router.routes(tools[best], confidences, kinds)[0]

    def confidences(self, question: str, tools: np.ndarray) -> np.ndarray:
        """Return how sure the router is of each of some tools, and of no other, with sum 1.

        Args:
            tools: places in the index.
        """
        query = self.router.adapter.queries(self._encode([question], "query"))
        words = self.index.lexical.scores([question])[:, tools]
        return self._shared(self._dense_of(query, tools), words)

    def confidences_by_description(self, question: str, descriptions: Sequence[str]) -> np.ndarray:
        """Return how sure the router is of tools it knows nothing of but a description."""
        asked = self._encode([question], "query")
        described = self._encode(descriptions, "document")
        query = self.router.adapter.queries(asked)
        dense = query @ self.router.adapter.documents(described).T
        return self._shared(dense, LexicalIndex(descriptions).scores([question]))

    def kinds(self, question: str) -> dict[str, float]:
        """Return the share of each index kind."""
        found = self.router.kinds.shares(self._encode([question], "query"), [question])[0]
        return dict(zip(KINDS, found.tolist()))

    def _shared(self, dense: np.ndarray, words: np.ndarray) -> np.ndarray:
        scores = self.router.scores(dense, words)
        return np.asarray(shares(scores, self.router.choice.temperature)[0])

    def doc_keys(self, route: Route) -> list[str]:
        """Return the documents that a route says to search, best first; all of them if none."""
        if route.abstained:
            return self.index.doc_keys
        return [self.index.doc_keys[tool] for tool, _ in route.tools[: route.picked]]

    def _candidates(self, query: np.ndarray, words: np.ndarray) -> np.ndarray:
        near = self._nearest.search(query, _NEIGHBOURS)[0]
        named = top_k(words, min(_NEIGHBOURS, len(self)))[0]
        return np.unique(np.concatenate([self._owner[near[near >= 0]], named]))

    def _dense_of(self, query: np.ndarray, tools: np.ndarray) -> np.ndarray:
        starts, ends = self.index.starts[tools], self.index.starts[tools + 1]
        rows = np.concatenate([np.arange(start, end) for start, end in zip(starts, ends)])
        places = np.concatenate([[0], np.cumsum(ends - starts)[:-1]])
        return np.maximum.reduceat(query @ self._nearest.take(rows).T, places, axis=1)

    def _best_text(self, query: np.ndarray, tool: int) -> str:
        rows = np.arange(self.index.starts[tool], self.index.starts[tool + 1])
        return self.index.texts[rows[int(np.argmax(self._nearest.take(rows) @ query))]]

    def _second_opinion(
        self,
        question: str,
        query: np.ndarray,
        tools: np.ndarray,
        scores: np.ndarray,
        scorer: PairScorer,
    ) -> np.ndarray:
        choice = self.router.choice
        best = top_k(scores, choice.rerank_depth)
        texts = [self._best_text(query[0], tool) for tool in tools[best[0]]]
        opinions = scorer.score([(question, text) for text in texts])
        return with_second_opinion(scores, best, opinions, choice.rerank_weight)
