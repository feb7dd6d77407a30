"""How much the teacher trusts BM25 against the base embedder: chosen per corpus, never trained on.

People's questions say it best; synthetic val questions that are cut out of their node would
give BM25 all the weight, so of those only the others may say it, and test documents never do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ragft_pipeline.retrieval.folds import agreed
from ragft_pipeline.retrieval.metrics import nearest_sufficient
from ragft_pipeline.retrieval.question_sets import PEOPLE
from ragft_pipeline.retrieval.search import MIDDLE
from ragft_pipeline.settings import TeacherSettings
from ragft_pipeline.tuning.choosing_questions import ChoosingQuestions
from ragft_pipeline.tuning.followed_lists import FirstLook

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class TeacherWeight:
    """The weight of BM25, and what chose it: a question set's name, or `settings`, or `nothing`."""

    bm25_weight: float
    chosen_on: str
    questions: int = 0


def choose_teacher_weight(
    settings: TeacherSettings,
    asked: Callable[[], ChoosingQuestions],
    look: Callable[[], FirstLook],
) -> TeacherWeight:
    """Return the weight nearest to one half that the choosing questions cannot tell from the best.

    It is one half unless they say the same whichever fold of them is left out.

    Args:
        asked: returns the questions that choose.
        look: returns a look at the nodes of train and val, by `WEIGHTS`.
    """
    if settings.bm25_weight is not None:
        return TeacherWeight(settings.bm25_weight, "settings")
    choosing = asked()
    questions = choosing.questions
    if not len(questions):
        return TeacherWeight(1 - MIDDLE, "nothing")
    results = choosing.scores(look())

    def choose(rows: np.ndarray) -> float:
        return nearest_sufficient(WEIGHTS, [found[rows] for found in results], 1 - MIDDLE)

    if questions.name == PEOPLE:
        chosen = agreed(choose, questions.clusters, 1 - MIDDLE)
    else:
        chosen = choose(np.ones(len(questions), bool))
    return TeacherWeight(chosen, questions.name, len(questions))
