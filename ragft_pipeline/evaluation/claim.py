"""One claim: a candidate, chosen without the questions that judge it, is better than a reference.

One paired test says so: a randomization test over units of questions that depend on each other, at
a level that is spent (`release.gate`), and a gain that is worth the change. Elsewhere it must not
be worse by more than a margin. The same rule judges retrieval, routing and answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ragft_pipeline.evaluation.power import gain_seen
from ragft_pipeline.evaluation.significance import (
    MIN_UNITS,
    Difference,
    paired_difference,
    randomization_p,
)
from ragft_pipeline.settings import EvaluationSettings, GateSettings


@dataclass(frozen=True)
class Paired:
    """Scores of candidate and reference on the same questions, and each question's unit.

    `measure` is what people call the scores.
    """

    name: str
    candidate: np.ndarray
    reference: np.ndarray
    units: Sequence[str]
    measure: str = "nDCG@10"

    @classmethod
    def of(
        cls, name: str, candidate: Mapping[str, tuple[float, str]],
        reference: Mapping[str, tuple[float, str]],
    ) -> Paired:  # fmt: skip
        """Pair scores and units by question id; questions that one lacks are left out."""
        shared = sorted(candidate.keys() & reference.keys())
        left, right = (
            np.array([scores[question][0] for question in shared], float)
            for scores in (candidate, reference)
        )
        return cls(name, left, right, [candidate[question][1] for question in shared])

    def __len__(self) -> int:
        return len(self.units)

    def difference(self, evaluation: EvaluationSettings, alpha: float = 0.05) -> Difference:
        """Return the mean difference and its interval."""
        return paired_difference(
            self.candidate, self.reference, self.units, evaluation.bootstrap, evaluation.seed, alpha
        )


@dataclass(frozen=True)
class ClaimTest:
    """One test of a claim.

    Attributes:
        name: `superior`, `not worse: <set>` or `latency`.
        passed: whether it lets the candidate through; None where there is too little to ask it
            with, which stands in nobody's way and is said.
        finding: one line for people.
        figures: the numbers behind it.
    """

    name: str
    passed: bool | None
    finding: str
    figures: dict[str, float]


def superior(
    pair: Paired, level: float, gate: GateSettings, evaluation: EvaluationSettings
) -> ClaimTest:
    """Say whether the candidate is better: proven at a level, and by a gain worth the change."""
    difference = pair.difference(evaluation)
    p = randomization_p(
        pair.candidate, pair.reference, pair.units, evaluation.bootstrap, evaluation.seed, level
    )
    enough = difference.clusters >= MIN_UNITS
    proven = enough and p <= level and difference.low > 0
    passed = proven and difference.mean >= gate.min_gain
    finding = f"{difference} {pair.measure} on {len(pair)} {pair.name} questions, p {p:.2g}"
    if not enough:
        finding += f": too few to say, {difference.clusters} that do not depend on each other"
    elif not proven:
        least = gain_seen(pair.candidate - pair.reference, pair.units, level)
        finding += f": no gain is proven at level {level:.2g}; one under {least:.3f} is missed"
    elif not passed:
        finding += f": less than the useful gain of {gate.min_gain:g}"
    return ClaimTest("superior", passed, finding, {**_figures(difference), "p": p})


def not_worse(pair: Paired, gate: GateSettings, evaluation: EvaluationSettings) -> ClaimTest:
    """Say whether the candidate is not worse by more than the margin, with 95% confidence."""
    difference = pair.difference(evaluation, 0.1)
    finding = f"{difference} {pair.measure} on {len(pair)} {pair.name} questions"
    passed: bool | None = difference.low > -gate.margin
    if difference.clusters < MIN_UNITS:
        passed = None
        finding += f": too few to ask, {difference.clusters} that do not depend on each other"
    elif not passed:
        finding += f": it may be worse by more than {gate.margin:g}"
    return ClaimTest(f"not worse: {pair.name}", passed, finding, _figures(difference))


def _figures(difference: Difference) -> dict[str, float]:
    return {
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "questions": float(difference.questions),
    }
