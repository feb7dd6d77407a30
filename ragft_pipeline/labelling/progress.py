"""How many judgements are still needed, by what was judged so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from ragft_pipeline.evaluation.power import GOAL, questions_needed
from ragft_pipeline.retrieval.metrics import ndcg

_LEVEL = 0.05
_ENOUGH = 12  # fewer differences say too little of their own spread
_SPREAD = 0.2  # of differences in nDCG@10 between two systems on other corpora's questions
_ERRORS = 2.49  # standard errors at which a one-sided test at 5% has a power of .8


@dataclass(frozen=True)
class Progress:
    """How far a test set is: `judged` of about `needed` questions for a gain of `gain`."""

    judged: int
    needed: int
    gain: float = GOAL
    mean: float | None = None

    def __str__(self) -> str:
        gain = f"{self.gain:.2f}".lstrip("0")
        return f"{self.judged} of about {self.needed} for a gain of {gain}"


def progress(differences: Sequence[float], units: Sequence[str], before: int = 0) -> Progress:
    """Return how far judging is.

    Args:
        differences: in nDCG@10 between the two systems that are compared, a judged question each.
        units: of questions that depend on each other (documents).
        before: people's questions that there were already.
    """
    judged = len(differences) + before
    if len(differences) < _ENOUGH or not np.std(differences):
        return Progress(judged, ceil((_ERRORS * _SPREAD / GOAL) ** 2))
    values = np.asarray(differences, float)
    needed = questions_needed(values, units, GOAL, _LEVEL)
    return Progress(judged, needed, mean=float(values.mean()))


def difference(one: Sequence[str], other: Sequence[str], grades: Mapping[str, int]) -> float | None:
    """Return a question's nDCG@10 by one ranking less that by another; None where nothing answers.

    Args:
        grades: by node, of those that were judged.
    """
    if not any(grades.values()):
        return None
    names = {node: place for place, node in enumerate(dict.fromkeys((*one, *other, *grades)))}
    judged = {names[node]: grade for node, grade in grades.items()}
    scores = [
        ndcg(np.array([[names[node] for node in nodes[:10]]]), [judged])[0]
        for nodes in (one, other)
    ]
    return float(scores[0] - scores[1])
