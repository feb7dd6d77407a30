"""The cross-encoder's opinion of the best tools, by their best-matching passages."""

from __future__ import annotations

import numpy as np

from ragft_pipeline.retrieval.reranking import PairScorer, blend
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.routing.asked import Asked
from ragft_pipeline.routing.router import Router
from ragft_pipeline.routing.tool_index import ToolIndex


def reranked(
    router: Router, scorer: PairScorer | None, index: ToolIndex, asked: Asked
) -> np.ndarray:
    """Return the router's scores of all tools, its reranking included, (questions, tools)."""
    queries = router.adapter.queries(asked.vectors)
    vectors = router.adapter.documents(index.vectors)
    scores = router.scores(
        index.dense(queries, vectors), index.lexical.scores(asked.questions.texts)
    )
    choice = router.choice
    if scorer is None or not choice.rerank_weight or not len(asked):
        return scores
    best = top_k(scores, choice.rerank_depth)
    pairs = [
        (text, index.best_text(query, vectors, tool))
        for text, query, row in zip(asked.questions.texts, queries, best)
        for tool in row
    ]
    return with_second_opinion(scores, best, scorer.score(pairs), choice.rerank_weight)


def with_second_opinion(
    scores: np.ndarray, best: np.ndarray, opinions: np.ndarray, weight: float
) -> np.ndarray:
    """Return scores with those of the best tools blended with a second scorer's, in their range."""
    first = np.take_along_axis(scores, best, axis=1)
    low, high = first.min(axis=1, keepdims=True), first.max(axis=1, keepdims=True)
    mixed = low + (high - low) * blend(first, opinions.reshape(first.shape), weight)
    changed = scores.copy()
    np.put_along_axis(changed, best, mixed.astype(scores.dtype), axis=1)
    return changed
