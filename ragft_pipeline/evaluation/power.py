"""Power: what gain a set of questions can see, and how many more would see a smaller one.

From the spread of the questions' own differences: a gain is seen in four of five cases where it is
its test's critical value and .84 more standard errors away from zero. The error shrinks with the
root of the number of questions, as long as new ones are about as many units for each question.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from statistics import NormalDist

import numpy as np

from ragft_pipeline.evaluation.significance import standard_error

POWER = 0.8
GOAL = 0.04  # nDCG@10: a gain that people notice


def gain_seen(
    differences: np.ndarray, units: Sequence[str], level: float, power: float = POWER
) -> float:
    """Return the least true gain that these questions see with such a power.

    Args:
        differences: between two systems' scores, float (questions,).
        units: of questions that depend on each other.
        level: of the one-sided test.
    """
    normal = NormalDist()
    errors = normal.inv_cdf(1 - level) + normal.inv_cdf(power)
    return errors * standard_error(differences, units)


def questions_needed(
    differences: np.ndarray, units: Sequence[str], gain: float, level: float, power: float = POWER
) -> int:
    """Return how many questions see a gain with such a power."""
    seen = gain_seen(differences, units, level, power)
    return ceil(len(differences) * (seen / gain) ** 2)


def power_sentence(differences: np.ndarray, units: Sequence[str], about: str, level: float) -> str:
    """Say what gain these questions could have shown, and how many more would show `GOAL`.

    Args:
        about: what the questions are about: `19 documents`.
    """
    number, seen = len(differences), gain_seen(differences, units, level)
    said = f"With these {number} questions about {about} a gain under {seen:.3f} is usually missed"
    needed = questions_needed(differences, units, GOAL, level)
    if needed <= number:
        return f"{said}."
    return f"{said}; about {needed - number} more would see {GOAL:g}."
