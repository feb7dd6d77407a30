"""The gate: may a candidate replace what is served?

One claim (`evaluation.claim`): candidate and champion answer the same questions, and the candidate
is better as served by a useful gain. It must not be worse by more than a margin on tomorrow's
documents and on those that did not change, nor much slower. Every test must pass, so these need no
correction for their number.

The same questions judge a new candidate every night, so the level is spent: the k-th candidate
judged against one champion is tested at alpha / (k (k + 1)), and these sum to alpha. The chance to
replace a champion by something no better, however many nights it stands, is at most alpha. (A
rotating holdout would keep the level but spend the questions, of which a team has few.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragft_pipeline.evaluation.claim import ClaimTest, Paired, not_worse, superior
from ragft_pipeline.settings import EvaluationSettings, GateSettings


@dataclass(frozen=True)
class Judgement:
    """What the gate says, and why."""

    tests: list[ClaimTest]
    level: float

    @property
    def passed(self) -> bool:
        """Whether no test that could be asked stands in the way."""
        return all(test.passed is not False for test in self.tests)

    @property
    def why(self) -> str:
        """One line: the gain, or what stood against it."""
        shown = [t for t in self.tests if t.passed is False] or self.tests[:1]
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
    served: Paired,
    others: Sequence[Paired],
    latency_ms: tuple[float, float],
    judged_before: int,
    gate: GateSettings,
    evaluation: EvaluationSettings,
) -> Judgement:
    """Judge a candidate against the champion.

    Args:
        served: the questions on which it must be better.
        others: the questions on which it must not be worse; sets without questions pass.
        latency_ms: median milliseconds a query of candidate and champion, in one run.
        judged_before: candidates that were judged against this champion before.
    """
    level = spent_level(gate.alpha, judged_before)
    tests = [superior(served, level, gate, evaluation)]
    tests += [not_worse(pair, gate, evaluation) for pair in others if len(pair)]
    tests.append(_latency(*latency_ms, gate))
    return Judgement(tests, level)


def _latency(candidate: float, champion: float, gate: GateSettings) -> ClaimTest:
    limit = max(gate.latency_floor_ms, gate.latency_factor * champion)
    passed = candidate <= limit
    finding = f"{candidate:.0f} ms a query against {champion:.0f} ms, at most {limit:.0f} ms"
    return ClaimTest(
        "latency", passed, finding, {"candidate_ms": candidate, "champion_ms": champion}
    )
