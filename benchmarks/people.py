"""Today's system before context, stems and rankers, and rankers fitted on fewer questions.

Nothing that a question fitted or chose scores it: weights come from the other folds (`folds_of`, by
document cluster).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragft_pipeline.evaluation.choosing import Ranked
from ragft_pipeline.evaluation.ranking import Ranking
from ragft_pipeline.evaluation.second_stages import by_scores
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.retrieval.folds import folds_of
from ragft_pipeline.retrieval.metrics import PRIMARY, score_rankings
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.reranking import blend
from ragft_pipeline.retrieval.search import fuse

FUSION = tuple(n / 10 for n in range(1, 10))
SECOND = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # the grid of late interaction's weight
DEPTH = 50  # the candidates that it reordered
DRAWS = 3  # of the questions that fit, where fewer than all do


def scored(questions: QuestionSet, ranked: np.ndarray) -> np.ndarray:
    """Return nDCG@10 of rankings, int (questions, nodes)."""
    return score_rankings(ranked, questions.relevant)[PRIMARY]


def two_weights(trial: Trial, questions: QuestionSet) -> np.ndarray:
    """Return nDCG@10 of base, BM25 and late interaction, two weights from the other folds' best."""
    late = trial.late_interaction
    assert late is not None
    base, grid = trial.whole.stages.retrievers[0], []
    for fusion in FUSION:
        parts = [
            scores.best(fuse(scores.dense, scores.words, fusion))
            for _, _, scored_block in trial.whole.stages.blocks(questions)
            for retriever, scores in scored_block
            if retriever is base
        ]
        nodes, first = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("nodes", "scores")
        )
        best = nodes[:, :DEPTH]
        late.ensure(questions, [best])
        found = late.scores(questions, best)
        for weight in SECOND:
            mixed = by_scores(best, blend(first[:, :DEPTH], found, weight))
            whole = Ranking(np.concatenate([mixed.nodes, nodes[:, DEPTH:]], axis=1), first)
            grid.append(scored(questions, whole.nodes))
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


def ranked(system: Ranked, questions: QuestionSet, number: int | None = None) -> np.ndarray:
    """Return nDCG@10 of a ranker fitted on the other folds.

    Args:
        number: of the other folds' questions that fit, drawn three times; None: all.
    """
    folds, results = folds_of(questions.clusters), []
    for draw in range(1 if number in (None, 0) else DRAWS):
        random = np.random.default_rng(draw)
        found = np.empty(len(questions))
        for fold in np.unique(folds):
            own, fits = folds == fold, np.zeros(len(questions), bool)
            fits[random.permutation(np.flatnonzero(folds != fold))[:number]] = True
            found[own] = system.found(system.fit(fits), own).primary
        results.append(found)
    return np.asarray(np.mean(results, axis=0))
