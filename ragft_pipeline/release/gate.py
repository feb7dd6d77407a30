"""The gate: may a candidate replace what is served?

Candidate and champion answer the same questions; scores are paired by question and clustered by
document. The candidate must be better where it counts by a useful gain, and not worse by more than
a margin anywhere else. Every test must pass, so those need no correction for their number; the
claims "this part helps" within a candidate are corrected by Holm's method where they are made
(`evaluation.summary.decide`).

The same questions judge a new candidate every night, so the level is spent: the k-th candidate
judged against one champion is tested at alpha / (k (k + 1)), and these sum to alpha. The chance to
replace a champion by something no better, however many nights it stands, is at most alpha. (A
rotating holdout would keep the level but spend the questions, of which a team has few.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragft_pipeline.evaluation.significance import (
    MIN_CLUSTERS,
    Difference,
    paired_difference,
    randomization_p,
)
from ragft_pipeline.settings import EvaluationSettings, GateSettings

_MOST_SAMPLES = 200_000


@dataclass(frozen=True)
class Paired:
    """nDCG@10 of candidate and champion on the same questions, and each question's cluster."""

    name: str
    candidate: np.ndarray
    champion: np.ndarray
    clusters: Sequence[str]

    def __len__(self) -> int:
        return len(self.clusters)


@dataclass(frozen=True)
class GateTest:
    """One test of the gate.

    Attributes:
        name: `superior`, `not worse: <set>` or `latency`.
        passed: whether it lets the candidate through.
        finding: one line for people.
        figures: the numbers behind it.
    """

    name: str
    passed: bool
    finding: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Judgement:
    """What the gate says, and why."""

    tests: list[GateTest]
    level: float

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return all(test.passed for test in self.tests)

    @property
    def why(self) -> str:
        """One line: the gain, or what stood against it."""
        shown = [t for t in self.tests if not t.passed] or self.tests[:1]
        return "; ".join(test.finding for test in shown)

    @property
    def figures(self) -> dict[str, float]:
        """Every test's numbers, flat."""
        named = {f"{t.name}/{key}": value for t in self.tests for key, value in t.figures.items()}
        return {**named, "level": self.level}


def spent_level(alpha: float, judged_before: int) -> float:
    """Return the level of the next test against a champion that saw so many candidates."""
    number = judged_before + 1
    return alpha / (number * (number + 1))


def judge(
    primary: Paired,
    others: Sequence[Paired],
    latency_ms: tuple[float, float],
    judged_before: int,
    gate: GateSettings,
    evaluation: EvaluationSettings,
) -> Judgement:
    """Judge a candidate against the champion.

    Args:
        primary: the questions on which it must be better.
        others: the questions on which it must not be worse; sets without questions pass.
        latency_ms: median milliseconds a query of candidate and champion, in one run.
        judged_before: candidates that were judged against this champion before.
    """
    level = spent_level(gate.alpha, judged_before)
    tests = [_superior(primary, level, gate, evaluation)]
    tests += [_not_worse(pair, gate, evaluation) for pair in others if len(pair)]
    tests.append(_latency(*latency_ms, gate))
    return Judgement(tests, level)


def _superior(
    pair: Paired, level: float, gate: GateSettings, evaluation: EvaluationSettings
) -> GateTest:
    beyond = min(_MOST_SAMPLES, int(20 / level))  # some samples beyond the percentile
    samples = max(evaluation.bootstrap, beyond)
    difference = _difference(pair, samples, evaluation, 2 * level)
    p = randomization_p(pair.candidate, pair.champion, pair.clusters, samples, evaluation.seed)
    enough = difference.clusters >= MIN_CLUSTERS
    passed = enough and p <= level and difference.low > 0 and difference.mean >= gate.min_gain
    finding = f"{difference} nDCG@10 on {len(pair)} {pair.name} questions, p {p:.2g}"
    if not enough:
        finding += f", about {difference.clusters} documents: too few to say"
    elif p > level or difference.low <= 0:
        finding += f": no gain is proven at level {level:.2g}"
    elif not passed:
        finding += f": less than the useful gain of {gate.min_gain:g}"
    return GateTest("superior", passed, finding, {**_figures(difference), "p": p})


def _not_worse(pair: Paired, gate: GateSettings, evaluation: EvaluationSettings) -> GateTest:
    difference = _difference(pair, evaluation.bootstrap, evaluation, 0.1)
    passed = difference.low > -gate.margin
    finding = f"{difference} nDCG@10 on {len(pair)} {pair.name} questions"
    if not passed:
        finding += f": it may be worse by more than {gate.margin:g}"
    return GateTest(f"not worse: {pair.name}", passed, finding, _figures(difference))


def _latency(candidate: float, champion: float, gate: GateSettings) -> GateTest:
    limit = max(gate.latency_floor_ms, gate.latency_factor * champion)
    passed = candidate <= limit
    finding = f"{candidate:.0f} ms a query against {champion:.0f} ms, at most {limit:.0f} ms"
    return GateTest(
        "latency", passed, finding, {"candidate_ms": candidate, "champion_ms": champion}
    )


def _difference(
    pair: Paired, samples: int, evaluation: EvaluationSettings, alpha: float
) -> Difference:
    return paired_difference(
        pair.candidate, pair.champion, pair.clusters, samples, evaluation.seed, alpha
    )


def _figures(difference: Difference) -> dict[str, float]:
    return {
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "questions": float(difference.questions),
    }
