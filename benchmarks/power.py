"""How often a true gain is promoted: by the rule of today, and by the one before it.

From real per-question differences between what the questions chose and the untuned hybrid: they are
moved to a true gain, and questions are drawn anew by their units. The rule before looked at the
questions about held-out documents that were not for choosing, and corrected for the number of steps
of its ladder; this one looks at all, at the spent level, and asks of tomorrow's documents that they
are not worse.
"""

from __future__ import annotations

import numpy as np

from benchmarks.results_file import Results
from ragft_pipeline.evaluation.claim import Paired, not_worse, superior
from ragft_pipeline.evaluation.names import CANDIDATE
from ragft_pipeline.evaluation.significance import randomization_p, standard_error
from ragft_pipeline.evaluation.summary import UNTUNED, EvaluationRows
from ragft_pipeline.release.gate import spent_level
from ragft_pipeline.retrieval.question_sets import SERVED, TOMORROW
from ragft_pipeline.settings import EvaluationSettings, Settings

GAINS = (0.0, 0.01, 0.02, 0.05, 0.10)
QUESTIONS = (30, 75, 150, 300, 1000)
RUNS, NIGHTS = 200, 50
STEPS = 3  # of the ladder of the rule before: fusion, tuned retriever, second stage
FALSE = 0.05


class Drawn:
    """Differences of real questions, moved to a true gain and drawn anew by their units."""

    def __init__(self, pair: Paired) -> None:
        self.differences = pair.candidate - pair.reference
        _, self._of = np.unique(pair.units, return_inverse=True)
        self._members = [np.flatnonzero(self._of == unit) for unit in range(self._of.max() + 1)]

    def pair(self, number: int, gain: float, random: np.random.Generator) -> Paired:
        """Return so many questions with a true gain, and their units."""
        rows: list[int] = []
        units: list[str] = []
        while len(rows) < number:
            own = self._members[random.integers(len(self._members))]
            units += [str(len(rows))] * len(own)
            rows += own.tolist()
        found = self.differences[rows[:number]] - self.differences.mean() + gain
        return Paired("people's", found, np.zeros(number), units[:number])


def power_table(name: str, rows: EvaluationRows, settings: Settings, results: Results) -> None:
    """Print and record the shares of promotions."""
    served = Drawn(rows.paired(SERVED, CANDIDATE, UNTUNED))
    later = Drawn(rows.paired(TOMORROW, CANDIDATE, UNTUNED))
    share = rows.count(TOMORROW) / rows.count(SERVED)
    quick = settings.evaluation.model_copy(update={"bootstrap": 1000})
    print(f"\n### {name}: share of promotions by true gain, the rule before and this one\n")
    print(f"| questions | {' | '.join(f'{gain:.2f}' for gain in GAINS)} |")
    print("|---|" + "---|" * len(GAINS))
    for number in QUESTIONS:
        cells = []
        for gain in GAINS:
            old, new = promoted(served, later, number, share, gain, settings, quick)
            cells.append(f"{old:.2f}, {new:.2f}")
            results.add(f"{name}/power/{number}/{gain:.2f}/before", old, "share")
            most = FALSE if gain == 0 else None
            results.add(f"{name}/power/{number}/{gain:.2f}", new, "share", at_most=most)
        print(f"| {number} | {' | '.join(cells)} |", flush=True)
    print(f"\n| questions, {NIGHTS} nights | {' | '.join(f'{gain:.2f}' for gain in GAINS)} |")
    print("|---|" + "---|" * len(GAINS))
    for number in QUESTIONS[1:4]:
        cells = []
        for gain in GAINS:
            found = nightly(served, number, gain, settings, quick)
            cells.append(f"{found:.2f}")
            most = FALSE if gain == 0 else None
            results.add(f"{name}/nights/{number}/{gain:.2f}", found, "share", at_most=most)
        print(f"| {number} | {' | '.join(cells)} |", flush=True)


def promoted(
    served: Drawn,
    later: Drawn,
    number: int,
    share: float,
    gain: float,
    settings: Settings,
    quick: EvaluationSettings,
) -> tuple[float, float]:
    """Return how often the rule before and this one promote a gain with so many questions."""
    gate, old, new = settings.gate, 0, 0
    held = max(1, round(share * number))
    for run in range(RUNS):
        random = np.random.default_rng([run, number])
        pair, held_out = served.pair(number, gain, random), later.pair(held, gain, random)
        tests = [superior(pair, gate.alpha / 2, gate, quick), not_worse(held_out, gate, quick)]
        new += all(test.passed is not False for test in tests)
        if held >= settings.evaluation.min_gold:
            old += superior(held_out, gate.alpha / 2 / STEPS, gate, quick).passed is True
    return old / RUNS, new / RUNS


def nightly(
    served: Drawn, number: int, gain: float, settings: Settings, quick: EvaluationSettings
) -> float:
    """Return how often some night's candidate is promoted against one champion.

    Each night's has the gain and noise of its own, as models trained with other seeds have.
    """
    gate, found = settings.gate, 0
    for run in range(RUNS):
        random = np.random.default_rng([run, number, 1])
        for night in range(NIGHTS):
            level = spent_level(gate.alpha, night)
            pair = served.pair(number, gain, random)
            differences = pair.candidate
            error = standard_error(differences, pair.units)
            if differences.mean() < 1.5 * error:
                continue  # far from any level: the test need not be run
            p = randomization_p(
                differences, pair.reference, pair.units, quick.bootstrap, quick.seed, level
            )
            if p <= level and differences.mean() >= gate.min_gain:
                found += 1
                break
    return found / RUNS
