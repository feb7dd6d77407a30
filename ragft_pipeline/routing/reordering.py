"""A second opinion of the best tools: a cross-encoder's or late interaction's, by passages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ragft_pipeline.retrieval.reranking import PairScorer, blend, cached_pair_scores
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.routing.asked import Asked
from ragft_pipeline.routing.router import Router
from ragft_pipeline.routing.tool_index import ToolIndex
from ragft_pipeline.store import Workspace

Scorers = Mapping[str, PairScorer]
"""Who may give a second opinion: `reranker` and `late_interaction`."""


def tool_scores(router: Router, index: ToolIndex, asked: Asked) -> np.ndarray:
    """Return the router's scores of all tools without a second opinion, (questions, tools)."""
    if not len(asked):
        return np.zeros((0, len(index)), np.float32)
    queries = router.adapter.queries(asked.vectors)
    vectors = router.adapter.documents(index.vectors)
    words = index.lexical.scores(asked.questions.texts)
    return router.scores(index.dense(queries, vectors), words)


def second_opinions(
    router: Router,
    name: str,
    scorer: PairScorer,
    index: ToolIndex,
    asked: Asked,
    best: np.ndarray,
    work: Workspace,
) -> np.ndarray:
    """Return a scorer's scores of the best tools, each by its best-matching passage.

    Args:
        name: of the scorer, as its rows are kept.
        best: places of tools, (questions, depth). The scores are of the same shape.
    """
    queries = router.adapter.queries(asked.vectors)
    vectors = router.adapter.documents(index.vectors)
    pairs = [
        (text, index.best_text(query, vectors, tool))
        for text, query, row in zip(asked.questions.texts, queries, best)
        for tool in row
    ]
    return cached_pair_scores(work, name, scorer, pairs).reshape(best.shape)


def reranked(
    router: Router, scorers: Scorers, index: ToolIndex, asked: Asked, work: Workspace
) -> np.ndarray:
    """Return the router's scores of all tools as it decides by them, float (questions, tools)."""
    scores = tool_scores(router, index, asked)
    choice = router.choice
    if not choice.rerank_weight or not len(asked):
        return scores
    best = top_k(scores, choice.rerank_depth)
    name = choice.rerank_by
    opinions = second_opinions(router, name, scorers[name], index, asked, best, work)
    return with_second_opinion(scores, best, opinions, choice.rerank_weight)


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
