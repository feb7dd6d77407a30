"""Whether passages are read below their titles and headings: chosen for each corpus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ragft_pipeline.retrieval.folds import agreed
from ragft_pipeline.retrieval.metrics import mean_of, smallest_sufficient
from ragft_pipeline.retrieval.question_sets import PEOPLE
from ragft_pipeline.tuning.choosing_questions import ChoosingQuestions
from ragft_pipeline.tuning.followed_lists import FirstLook

_ON, _OFF = "on", "off"


@dataclass(frozen=True)
class ContextChoice:
    """`on` or `off`, what chose it, and nDCG@10 of the untuned hybrid with and without."""

    context: str
    chosen_on: str
    questions: int = 0
    with_context: float = 0.0
    without: float = 0.0


def choose_context(
    anything_above: bool, asked: Callable[[], ChoosingQuestions], look: Callable[[bool], FirstLook]
) -> ContextChoice:
    """Return whether to read passages with context: yes, unless questions say that it harms.

    It helps on four of five corpora that we know; where it does not, every chunk of a document has
    the same long title. So it is taken back where the choosing questions tell the plain passages
    from the best by more than a standard error, whichever fold of them is left out, and where
    nothing is in a passage's context.

    Args:
        anything_above: whether anything stands above a passage of train or val.
        asked: returns the questions that choose.
        look: returns a look at the nodes of train and val, with context or without.
    """
    if not anything_above:
        return ContextChoice(_OFF, "nothing stands above the passages")
    choosing = asked()
    questions = choosing.questions
    if not len(questions):
        return ContextChoice(_ON, "nothing")
    found = [choosing.scores(look(context))[0] for context in (True, False)]

    def choose(rows: np.ndarray) -> str:
        return (_ON, _OFF)[smallest_sufficient((0.0, 1.0), [one[rows] for one in found])]

    if questions.name == PEOPLE:
        best = agreed(choose, questions.clusters, _ON)
    else:
        best = choose(np.ones(len(questions), bool))
    return ContextChoice(best, questions.name, len(questions), *(mean_of(one) for one in found))
