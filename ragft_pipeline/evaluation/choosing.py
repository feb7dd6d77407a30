"""Choices: fusion weights and second stages' weights, made on questions that never report.

People's dev questions choose where there are enough. Synthetic val questions that are cut out of
their node word for word say nothing about fusion (BM25 finds its own words: on them it would get
all the weight), so without people's questions only the others choose, and only away from the
middle where they can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ragft_pipeline.evaluation.ranking import Ranking
from ragft_pipeline.evaluation.second_stages import SecondStage, rerank, staged_name
from ragft_pipeline.evaluation.systems import FirstStages
from ragft_pipeline.retrieval.metrics import PRIMARY, nearest_sufficient, score_rankings
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.search import MIDDLE, min_max, mix

PEOPLE = "gold_dev"


@dataclass
class Choices:
    """What was chosen, and on what.

    Attributes:
        chosen_on: the name of the choosing set, and how many questions it has.
        fusion_weights: dense weight of each retriever's hybrid, by retriever.
        second_stage_weights: weight of the second stage, by staged name; 0 leaves it out.
        rankers: the weights of each ranker, by staged name.
    """

    chosen_on: str
    chosen_on_questions: int
    fusion_weights: dict[str, float] = field(default_factory=dict)
    second_stage_weights: dict[str, float] = field(default_factory=dict)
    rankers: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the choices as plain values."""
        return asdict(self)


def choose_fusion(
    stages: FirstStages, questions: QuestionSet, grid: Sequence[float]
) -> dict[str, float]:
    """Return for each retriever the dense weight of its hybrid.

    On people's questions the best one (of equally good ones the middle); on others the one
    nearest to the middle that they cannot tell from the best.
    """
    if not len(questions):
        return {retriever.name: MIDDLE for retriever in stages.retrievers}
    found = {each.name: np.empty((len(grid), len(questions))) for each in stages.retrievers}
    for block, _, scored in stages.blocks(questions):
        relevant = questions.relevant[block]
        for retriever, scores in scored:
            dense, words = min_max(scores.dense), min_max(scores.words)
            for row, weight in zip(found[retriever.name], grid):
                ranking = scores.best(mix(dense, words, weight))
                row[block] = score_rankings(ranking.nodes, relevant)[PRIMARY]
    chosen = {}
    for retriever in stages.retrievers:
        results = list(found[retriever.name])
        if questions.name == PEOPLE:
            means = np.array([result.mean() for result in results])
            best = np.flatnonzero(np.isclose(means, means.max(), atol=1e-4))
            chosen[retriever.name] = float(grid[best[len(best) // 2]])
        else:
            chosen[retriever.name] = nearest_sufficient(grid, results, MIDDLE)
    return chosen


def choose_second_stage(
    stage: SecondStage,
    questions: QuestionSet,
    first_stages: dict[str, Ranking],
    grid: Sequence[float],
) -> dict[str, float]:
    """Return the stage's weight over each first stage, by staged name.

    The one nearest to the stage's prior that the choosing questions cannot tell from the best.
    """
    chosen = {}
    weights = (0.0, *sorted(grid))
    for name, first in first_stages.items():
        scores = stage.scores(questions, first.nodes[:, : stage.depth])
        results = [
            score_rankings(rerank(first, scores, weight).nodes, questions.relevant)[PRIMARY]
            for weight in weights
        ]
        chosen[staged_name(name, stage.name)] = nearest_sufficient(weights, results, stage.prior)
    return chosen
