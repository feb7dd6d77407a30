"""People's questions put to systems whose weights come from questions about other documents.

Nothing that a question fitted or chose scores it: weights, and which of several systems, come from
the other folds (`folds_of`, by document cluster).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragft_pipeline.evaluation.second_stages import LATE_INTERACTION, by_scores, rerank
from ragft_pipeline.evaluation.systems import BASE, hybrid_name
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.retrieval.evidence import Candidates
from ragft_pipeline.retrieval.metrics import PRIMARY, score_rankings
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.ranker import Ranker, folds_of

FUSION = tuple(n / 10 for n in range(1, 10))
SECOND = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # today's grid of the second stage's weight
DRAWS = 3  # of the questions that fit, where fewer than all do


@dataclass(frozen=True)
class Scored:
    """nDCG@10 of every question, float (questions,), by the name of what answered."""

    questions: QuestionSet
    scores: dict[str, np.ndarray]


def scored(questions: QuestionSet, ranked: np.ndarray) -> np.ndarray:
    """Return nDCG@10 of rankings, int (questions, nodes)."""
    return score_rankings(ranked, questions.relevant)[PRIMARY]


def first_stages(trial: Trial, questions: QuestionSet) -> dict[str, np.ndarray]:
    """Return nDCG@10 of BM25, the dense retrievers and their hybrids at equal weights."""
    weights = {each.name: 0.5 for each in trial.stages.retrievers}
    found = trial.stages.rank(questions, weights)
    return {name: scored(questions, ranking.nodes) for name, ranking in found.items()}


def two_weights(trial: Trial, questions: QuestionSet) -> np.ndarray:
    """Return nDCG@10 of base, BM25 and late interaction, two weights from the other folds' best."""
    stage = next(each for each in trial.second_stages if each.name == LATE_INTERACTION)
    grid = []
    for fusion in FUSION:
        first = trial.stages.rank(questions, {BASE: fusion})[hybrid_name(BASE)]
        stage.ensure(questions, [first.nodes[:, : stage.depth]])
        late = stage.scores(questions, first.nodes[:, : stage.depth])
        grid += [scored(questions, rerank(first, late, weight).nodes) for weight in SECOND]
    return best_elsewhere(grid, questions.clusters)


def best_elsewhere(systems: Sequence[np.ndarray], clusters: Sequence[str]) -> np.ndarray:
    """Return each question's score by the system that is best on the other folds."""
    folds, table = folds_of(clusters), np.stack(systems)
    found = np.empty(table.shape[1])
    for fold in np.unique(folds):
        own = folds == fold
        elsewhere = table[:, ~own] if (~own).any() else table
        found[own] = table[int(elsewhere.mean(axis=1).argmax())][own]
    return found


def ranked(found: Candidates, questions: QuestionSet, number: int | None = None) -> np.ndarray:
    """Return nDCG@10 of a ranker fitted on the other folds.

    Args:
        number: of the other folds' questions that fit, drawn three times; None: all.
    """
    right = found.relevant(questions.relevant)
    clusters, folds = np.array(questions.clusters), folds_of(questions.clusters)
    results = []
    for draw in range(1 if number in (None, 0) else DRAWS):
        random = np.random.default_rng(draw)
        scores = np.empty(found.nodes.shape, np.float32)
        for fold in np.unique(folds):
            own = folds == fold
            fits = random.permutation(np.flatnonzero(~own))[:number]
            ranker = Ranker.fitted(found.names, found.features[fits], right[fits], clusters[fits])
            scores[own] = ranker.scores(found.names, found.features[own])
        results.append(scored(questions, by_scores(found.nodes, scores).nodes))
    return np.asarray(np.mean(results, axis=0))
