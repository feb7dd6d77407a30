"""What a router decides by, chosen on questions that train nothing.

Any of the questions may choose: of people's, all choose for the release, and all but a fold's for
the questions of that fold, so that these can say what the router is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, lru_cache

import numpy as np

from ragft_pipeline.retrieval.metrics import mean_of, nearest_sufficient, smallest_sufficient
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.routing.asked import Asked, Passages, SearchedTools
from ragft_pipeline.routing.reordering import (
    Scorers,
    reranked,
    second_opinions,
    with_second_opinion,
)
from ragft_pipeline.routing.router import (
    CANDIDATES,
    Choice,
    Router,
    picks,
    searched_kinds,
    shares,
)
from ragft_pipeline.routing.tool_index import ToolIndex
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

RERANKER, LATE_INTERACTION = "reranker", "late_interaction"
_WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
USUAL_WEIGHT, _USUAL_TEMPERATURE = 0.7, 0.05
_TEMPERATURES = np.exp(np.linspace(np.log(0.005), np.log(0.5), 60))
_COVERAGES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 1.01)
_FLOORS = (0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.0)
_RERANK_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)


class Choosing:
    """Chooses by any of a set of questions; what several choices try is tried once.

    Args:
        router: with its maps at full strength, and the choice to begin with.
        scorers: who may give a second opinion.
        asked: the questions; a cross-encoder, which is dear, is asked about the first
            `rerank_questions` of them only.
    """

    def __init__(
        self,
        router: Router,
        scorers: Scorers,
        index: ToolIndex,
        passages: Passages,
        asked: Asked,
        settings: Settings,
        work: Workspace,
    ) -> None:
        self._router, self._scorers, self._index = router, scorers, index
        self._asked, self._recipe, self._work = asked, settings.router, work
        self._strengths = sorted(set(self._recipe.strengths))
        self._searched = SearchedTools(asked, passages)
        first = set(asked.questions.first(self._recipe.rerank_questions).ids)
        self._dear = np.array([question in first for question in asked.questions.ids], bool)
        self._words = cache(lambda: index.lexical.scores(asked.questions.texts))
        self._kinds = cache(lambda: router.kinds.shares(asked.vectors, asked.questions.texts))
        self._dense = lru_cache(maxsize=1)(self._dense_of)  # large: one strength at a time
        self._ranked = cache(self._ranks_of)
        self._opinionated = cache(self._ranks_with_opinion)
        self._best = cache(self._best_of)

    def choice(self, rows: np.ndarray) -> Choice:
        """Return the choice of some questions, bool (questions,); of none a cautious one."""
        start = replace(self._router.choice, strength=self._strengths[0])
        if not rows.any():
            return replace(start, temperature=_USUAL_TEMPERATURE, coverage=_COVERAGES[-1])
        chosen = self._second_opinion(self._scoring(start, rows), rows)
        best, values, right = self._best(chosen)
        chosen = replace(chosen, temperature=temperature_of(values[rows], right[rows]))
        return self._picks(chosen, best, shares(values, chosen.temperature), rows)

    def reciprocal_rank(self, choice: Choice) -> float:
        """Return the mean reciprocal rank of the right tool by a choice's maps and weight alone."""
        weight, strength = choice.dense_weight, choice.strength
        ranked = self._ranked(replace(self._router.choice, dense_weight=weight, strength=strength))
        return mean_of(ranked)

    def _scoring(self, start: Choice, rows: np.ndarray) -> Choice:
        """Choose the maps' strength and the weight beside BM25."""
        tried = [replace(start, strength=strength) for strength in self._strengths]
        results = [self._ranked(each)[rows] for each in tried]
        chosen = tried[smallest_sufficient(self._strengths, results)]
        tried = [replace(chosen, dense_weight=weight) for weight in _WEIGHTS]
        results = [self._ranked(each)[rows] for each in tried]
        weight = nearest_sufficient(_WEIGHTS, results, USUAL_WEIGHT)
        return replace(chosen, dense_weight=weight)

    def _second_opinion(self, chosen: Choice, rows: np.ndarray) -> Choice:
        """Choose whose opinion counts among the best tools, and how much; of doubts, nobody's.

        Of several that surely help, the one that gains more.
        """
        depth = self._recipe.rerank_depth
        gains: dict[tuple[str, float], float] = {}
        for name in self._scorers if depth else ():
            part = rows & self._dear if name == RERANKER else rows
            if part.any():
                results = [ranks[part] for ranks in self._opinionated(chosen, name)]
                place = smallest_sufficient(_RERANK_WEIGHTS, results)
                gains[name, _RERANK_WEIGHTS[place]] = mean_of(results[place] - results[0])
        if not gains:
            return chosen
        name, weight = max(gains, key=lambda option: gains[option])
        by = name if weight else ""
        return replace(chosen, rerank_by=by, rerank_weight=weight, rerank_depth=depth)

    def _picks(
        self, chosen: Choice, best: np.ndarray, confidences: np.ndarray, rows: np.ndarray
    ) -> Choice:
        """Choose how many tools and which kinds to search: the least that loses at most `max_loss`.

        Kinds first, on all tools that may be picked; then the coverage, abstaining included.
        """
        recipe, places = self._recipe, np.flatnonzero(rows).tolist()
        whole, best, confidences = self._searched.whole[rows], best[rows], confidences[rows]
        kinds = self._kinds()[rows]

        def within(picked: np.ndarray, floor: float) -> np.ndarray:
            tools = [row[:number].tolist() for row, number in zip(best, picked)]
            return self._searched.within(tools, [searched_kinds(k, floor) for k in kinds], places)

        most = np.full(len(places), min(recipe.max_tools, best.shape[1]))
        every_kind = within(most, 0.0)
        floor = _least(_FLOORS, lambda value: every_kind - within(most, value), recipe.max_loss / 2)

        def lost(coverage: float) -> np.ndarray:
            picked, abstained = picks(confidences, coverage, recipe.max_tools)
            return np.asarray(whole - np.where(abstained, whole, within(picked, floor)))

        coverage = _least(_COVERAGES, lost, recipe.max_loss)
        return replace(chosen, coverage=coverage, kind_floor=floor)

    def _dense_of(self, strength: float) -> np.ndarray:
        adapter = self._router.with_choice(strength=strength).adapter
        vectors = adapter.documents(self._index.vectors)
        return self._index.dense(adapter.queries(self._asked.vectors), vectors)

    def _scores(self, choice: Choice) -> np.ndarray:
        dense = self._dense(choice.strength)
        return replace(self._router, choice=choice).scores(dense, self._words())

    def _ranks_of(self, choice: Choice) -> np.ndarray:
        return self._asked.reciprocal_ranks(top_k(self._scores(choice), CANDIDATES))

    def _ranks_with_opinion(self, choice: Choice, name: str) -> list[np.ndarray]:
        """Return reciprocal ranks by each weight of a second opinion; 0 where it is not asked."""
        rows = self._dear if name == RERANKER else np.ones(len(self._asked), bool)
        part, scores = self._asked.at(np.flatnonzero(rows)), self._scores(choice)[rows]
        best = top_k(scores, self._recipe.rerank_depth)
        router, scorer = replace(self._router, choice=choice), self._scorers[name]
        opinions = second_opinions(router, name, scorer, self._index, part, best, self._work)
        results = []
        for weight in _RERANK_WEIGHTS:
            ranks = np.zeros(len(rows))
            mixed = with_second_opinion(scores, best, opinions, weight)
            ranks[rows] = part.reciprocal_ranks(top_k(mixed, CANDIDATES))
            results.append(ranks)
        return results

    def _best_of(self, choice: Choice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the best tools, their scores, and whether the first is right."""
        router = replace(self._router, choice=choice)
        scores = reranked(router, self._scorers, self._index, self._asked, self._work)
        best = top_k(scores, CANDIDATES)
        right = self._asked.first_ranks(best[:, :1]) > 0
        return best, np.take_along_axis(scores, best, axis=1), right


def temperature_of(values: np.ndarray, right: np.ndarray) -> float:
    """Return the temperature under which the first tools are as often right as they are sure.

    The one of least log loss of the first tool's confidence, in full: a question whose right tools
    are not among the candidates is a mistake like any other, and a sure mistake costs as much as
    it was sure.

    Args:
        values: scores of the best tools, best first, float (questions, tools).
        right: whether the first one is right, bool (questions,).
    """
    behind = (values[:, 1:] - values[:, :1]).astype(float)

    def loss(temperature: float) -> float:
        others = np.logaddexp.reduce(behind / temperature, axis=1)  # log odds against the first
        everything = np.logaddexp(0.0, others)
        return float(np.where(right, everything, everything - others).mean())

    return min(_TEMPERATURES.tolist(), key=loss)


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
