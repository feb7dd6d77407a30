"""What a router decides by, chosen on questions that neither train nor report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ragft_pipeline.retrieval.metrics import mean_of, nearest_sufficient, smallest_sufficient
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.routing.asked import Asked, Passages, ndcg
from ragft_pipeline.routing.reordering import (
    Scorers,
    second_opinions,
    tool_scores,
    with_second_opinion,
)
from ragft_pipeline.routing.router import CANDIDATES, Router, picks, searched_kinds, shares
from ragft_pipeline.routing.tool_index import ToolIndex
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

RERANKER, LATE_INTERACTION = "reranker", "late_interaction"
_WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
USUAL_WEIGHT = 0.7
_TEMPERATURES = np.exp(np.linspace(np.log(0.005), np.log(0.5), 60))
_COVERAGES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 1.01)
_FLOORS = (0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.0)
_RERANK_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
_MOST = 1000


def chosen_scores(
    router: Router, index: ToolIndex, asked: Asked, settings: Settings
) -> tuple[Router, dict[str, float]]:
    """Choose the maps' strength and the weight beside BM25 by the reciprocal rank of the tool."""
    strengths = sorted(set(settings.router.strengths))
    adapters = [router.adapter.shrunk(strength) for strength in strengths]
    if not len(asked):
        return replace(router, adapter=adapters[0]), {"strength": strengths[0]}
    words = index.lexical.scores(asked.questions.texts)

    def found(adapter: Any, weight: float) -> np.ndarray:
        dense = index.dense(adapter.queries(asked.vectors), adapter.documents(index.vectors))
        tried = replace(router, adapter=adapter).with_choice(dense_weight=weight)
        ranks = asked.first_ranks(top_k(tried.scores(dense, words), CANDIDATES))
        return np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0)

    results = [found(adapter, USUAL_WEIGHT) for adapter in adapters]
    best = smallest_sufficient(strengths, results)
    weighed = [found(adapters[best], weight) for weight in _WEIGHTS]
    weight = nearest_sufficient(_WEIGHTS, weighed, USUAL_WEIGHT)
    chosen = replace(router, adapter=adapters[best]).with_choice(dense_weight=weight)
    facts = {"strength": strengths[best], "choosing_mrr": mean_of(weighed[_WEIGHTS.index(weight)])}
    if strengths[0] == 0:
        facts["choosing_mrr_untuned"] = mean_of(results[0])
    return chosen, facts


def chosen_reranking(
    router: Router,
    scorers: Scorers,
    index: ToolIndex,
    asked: Asked,
    settings: Settings,
    work: Workspace,
) -> Router:
    """Choose whose opinion counts among the best tools, and how much; of doubts, nobody's.

    Of several that surely help, the one that gains more. A cross-encoder is asked about the first
    `rerank_questions` only, for it is dear.
    """
    recipe = settings.router
    if not recipe.rerank_depth or not len(asked):
        return router
    gains: dict[tuple[str, float], float] = {}
    for name, scorer in scorers.items():
        part = _first(asked, recipe.rerank_questions if name == RERANKER else _MOST)
        if not len(part):
            continue
        scores = tool_scores(router, index, part)
        best = top_k(scores, recipe.rerank_depth)
        opinions = second_opinions(router, name, scorer, index, part, best, work)
        results = []
        for weight in _RERANK_WEIGHTS:
            mixed = with_second_opinion(scores, best, opinions, weight)
            ranks = part.first_ranks(top_k(mixed, CANDIDATES))
            results.append(np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0))
        place = smallest_sufficient(_RERANK_WEIGHTS, results)
        gain = mean_of(results[place] - results[0])
        gains[name, _RERANK_WEIGHTS[place]] = gain
    if not gains:
        return router
    name, weight = max(gains, key=lambda option: gains[option])
    return router.with_choice(
        rerank_by=name if weight else "", rerank_weight=weight, rerank_depth=recipe.rerank_depth
    )


def _first(asked: Asked, limit: int) -> Asked:
    place = {question_id: row for row, question_id in enumerate(asked.questions.ids)}
    questions = asked.questions.first(limit)
    rows = [place[question_id] for question_id in questions.ids]
    return Asked(questions, asked.vectors[rows], [asked.tools[row] for row in rows])


def calibrated(router: Router, scores: np.ndarray, asked: Asked) -> Router:
    """Choose the temperature under which the right tools are likeliest."""
    if not len(asked):
        return router.with_choice(temperature=0.05)
    best = top_k(scores, CANDIDATES)
    values = np.take_along_axis(scores, best, axis=1)
    right = np.array([[tool in own for tool in row] for row, own in zip(best, asked.tools)])

    def loss(temperature: float) -> float:
        likely = (shares(values, temperature) * right).sum(axis=1)
        return float(-np.log(np.maximum(likely, 1e-3)).mean())

    return router.with_choice(temperature=min(_TEMPERATURES.tolist(), key=loss))


def chosen_picks(
    router: Router, scores: np.ndarray, passages: Passages, asked: Asked, settings: Settings
) -> Router:
    """Choose how many tools and which kinds to search: the least that loses at most `max_loss`.

    Kinds first, on all tools that may be picked; then the coverage, abstaining included.
    """
    recipe = settings.router
    if not len(asked):
        return router.with_choice(coverage=_COVERAGES[-1])
    dense = asked.vectors @ passages.vectors.T
    words = passages.lexical.scores(asked.questions.texts)
    whole = ndcg(list(passages.search_all(dense, words)), asked.questions)
    best, confidences = router.confidences(scores)
    kind_shares = router.kinds.shares(asked.vectors, asked.questions.texts)

    def within(picked: np.ndarray, floor: float) -> np.ndarray:
        return ndcg(
            [
                passages.search_within(
                    dense[row],
                    words[row],
                    best[row, : picked[row]].tolist(),
                    searched_kinds(kind_shares[row], floor),
                )
                for row in range(len(asked))
            ],
            asked.questions,
        )

    most = np.full(len(asked), min(recipe.max_tools, best.shape[1]))
    every_kind = within(most, 0.0)
    floor = _least(_FLOORS, lambda value: every_kind - within(most, value), recipe.max_loss / 2)

    def lost(coverage: float) -> np.ndarray:
        picked, abstained = picks(confidences, coverage, recipe.max_tools)
        return np.asarray(whole - np.where(abstained, whole, within(picked, floor)))

    coverage = _least(_COVERAGES, lost, recipe.max_loss)
    return router.with_choice(coverage=coverage, kind_floor=floor)


def _least(values: Sequence[float], lost: Callable[[float], np.ndarray], limit: float) -> float:
    """Return the first value from which on every one surely costs at most `limit`.

    Args:
        values: the boldest first; the last one costs nothing.
        lost: what a value costs on each question. It surely costs at most the limit where the
            upper end of its 95% interval does.
    """
    chosen = values[-1]
    for value in reversed(values):
        losses = lost(value)
        error = losses.std(ddof=1) / np.sqrt(len(losses)) if len(losses) > 1 else 0.0
        if mean_of(losses) + 1.96 * float(error) > limit:
            break
        chosen = value
    return chosen
