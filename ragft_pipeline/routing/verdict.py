"""Is the router better than the untuned selector? The one claim, on people's questions."""

from __future__ import annotations

from dataclasses import dataclass

from ragft_pipeline.evaluation.claim import ClaimTest, not_worse, superior
from ragft_pipeline.evaluation.power import power_sentence
from ragft_pipeline.retrieval.question_sets import SERVED, TOMORROW
from ragft_pipeline.routing.evaluation import ROUTER
from ragft_pipeline.routing.summary import RoutingRows
from ragft_pipeline.settings import GateSettings


@dataclass(frozen=True)
class RoutingVerdict:
    """Whether the router is better than the untuned selector.

    Attributes:
        tests: of that claim; none without people's questions.
        sentence: the verdict, in words.
        power: what gain these questions could have shown.
    """

    tests: tuple[ClaimTest, ...]
    sentence: str
    power: str = ""

    @property
    def lines(self) -> list[str]:
        """What a person reads first."""
        return [self.sentence, *filter(None, [self.power])]

    @property
    def proven(self) -> bool:
        """Whether people's questions prove the router better."""
        return bool(self.tests) and all(test.passed is not False for test in self.tests)


def decide(rows: RoutingRows, gate: GateSettings) -> RoutingVerdict:
    """Say whether the router is better than the untuned selector, by one claim.

    Better as served, at the level of a first candidate; not worse on tomorrow's documents. By what
    searching the first document alone is worth, which is of the gate's own measure.
    """
    served = rows.paired(SERVED, "people's")
    if len(served) < rows.settings.min_gold:
        few = f"only {len(served)} questions of people" if len(served) else "no question of people"
        sentence = (
            f"There is {few} to decide with, and synthetic ones decide nothing: whether the router "
            "is better than the untuned selector is open."
        )
        return RoutingVerdict((), sentence)
    level = gate.alpha / 2
    tests = [superior(served, level, gate, rows.settings)]
    if len(tomorrow := rows.paired(TOMORROW, "people's held-out")):
        tests.append(not_worse(tomorrow, gate, rows.settings))
    failed = [test.finding for test in tests if test.passed is False]
    documents = len(set(rows.values(SERVED, ROUTER)["clusters"]))
    power = power_sentence(
        served.candidate - served.reference, served.units, f"{documents} documents", level
    )
    sentence = (
        f"The router is not proven better than the untuned selector: {'; '.join(failed)}."
        if failed
        else f"The router is better than the untuned selector: {tests[0].finding}."
    )
    return RoutingVerdict(tuple(tests), sentence, power)
