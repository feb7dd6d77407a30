"""From evaluation rows to tables, paired differences and a verdict; DuckDB does the sums."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from ragft_pipeline.evaluation.names import BASE, spoken
from ragft_pipeline.evaluation.second_stages import STAGES, staged_name
from ragft_pipeline.evaluation.significance import (
    MIN_CLUSTERS,
    Difference,
    holm,
    paired_difference,
    randomization_p,
)
from ragft_pipeline.evaluation.systems import hybrid_name
from ragft_pipeline.retrieval.metrics import METRICS, PRIMARY
from ragft_pipeline.retrieval.question_sets import CHOOSING, HELD_OUT, REPORTING, with_held_out
from ragft_pipeline.settings import EvaluationSettings

ALPHA = 0.05
UNTUNED = hybrid_name(BASE)
_RETRIEVERS = ("context", "adapter", "tuned_embedder", "adapter(tuned_embedder)")
TUNED = (*_RETRIEVERS, *map(hybrid_name, _RETRIEVERS))


@dataclass(frozen=True)
class SystemResult:
    """One system on one question set: means, and its difference to base on the same questions."""

    question_set: str
    system: str
    questions: int
    means: dict[str, float]
    to_base: Difference


@dataclass(frozen=True)
class Step:
    """One decision: is `challenger` proven better than `reference` on the primary set?

    `p` is of a randomization test, adjusted by Holm's method for the number of decisions.
    """

    part: str
    challenger: str
    reference: str
    difference: Difference
    p: float = 1.0

    @property
    def proven(self) -> bool:
        """Whether the interval and the p value both say that it is better."""
        return self.difference.gain and self.p <= ALPHA

    @property
    def decision(self) -> str:
        """`use`, `leave out` (proven worse) or `not proven`."""
        if self.proven:
            return "use"
        return "leave out" if self.difference.loss else "not proven"


@dataclass(frozen=True)
class Verdict:
    """What the numbers say a team should serve."""

    primary_set: str
    recommended: str
    steps: list[Step]
    to_base: Difference
    sentence: str


class EvaluationRows:
    """Reads an EVAL_ROWS table by set and system.

    People's test questions about held-out documents are a set of their own as well.
    """

    def __init__(self, rows: pa.Table, settings: EvaluationSettings) -> None:
        self.settings = settings
        self.rows = rows = pa.concat_tables([rows, with_held_out(rows, "gold_test", HELD_OUT)])
        self._groups: dict[tuple[str, str], dict[str, tuple[float, str]]] = {}
        columns = ("question_set", "system", "question_id", PRIMARY, "cluster")
        for name, system, question, score, cluster in zip(
            *(rows.column(column).to_pylist() for column in columns)
        ):
            self._groups.setdefault((name, system), {})[question] = (score, cluster)

    def has(self, question_set: str, system: str) -> bool:
        """Say whether a system was run on a set."""
        return (question_set, system) in self._groups

    def count(self, question_set: str) -> int:
        """Return the number of questions of a set."""
        return len(self._groups.get((question_set, BASE), {}))

    def documents(self, question_set: str) -> int:
        """Return how many document clusters a set's questions are about."""
        return len({cluster for _, cluster in self.scores(question_set, BASE).values()})

    def scores(self, question_set: str, system: str) -> dict[str, tuple[float, str]]:
        """Return nDCG@10 and the document cluster of each question that a system answered."""
        return dict(self._groups.get((question_set, system), {}))

    def difference(self, question_set: str, challenger: str, reference: str) -> Difference:
        """Return the paired difference in nDCG@10 over the questions both systems answered."""
        left = self._groups.get((question_set, challenger), {})
        right = self._groups.get((question_set, reference), {})
        shared = sorted(left.keys() & right.keys())
        return paired_difference(
            np.array([left[q][0] for q in shared]),
            np.array([right[q][0] for q in shared]),
            [left[q][1] for q in shared],
            self.settings.bootstrap,
            self.settings.seed,
        )

    def step(self, question_set: str, part: str, challenger: str, reference: str) -> Step:
        """Return a decision with its difference and its uncorrected p value."""
        left, right = (self.scores(question_set, name) for name in (challenger, reference))
        shared = sorted(left.keys() & right.keys())
        p = randomization_p(
            np.array([left[q][0] for q in shared]),
            np.array([right[q][0] for q in shared]),
            [left[q][1] for q in shared],
            self.settings.bootstrap,
            self.settings.seed,
        )
        difference = self.difference(question_set, challenger, reference)
        return Step(part, challenger, reference, difference, p)

    def mean(self, question_set: str, system: str) -> float:
        """Return the mean nDCG@10 of a system on a set."""
        values = [score for score, _ in self._groups.get((question_set, system), {}).values()]
        return float(np.mean(values)) if values else 0.0

    def results(self) -> list[SystemResult]:
        """Return every system on every set, in the order they were run."""
        means = ", ".join(f"avg({metric}) AS {metric}" for metric in METRICS)
        with duckdb.connect() as connection:
            connection.register("evaluated", self.rows)
            table = connection.sql(
                f"SELECT question_set, system, count(*) AS questions, {means} "
                "FROM evaluated GROUP BY ALL ORDER BY question_set, system"
            ).to_arrow_table()
        order = list(self._groups)
        rows = sorted(
            table.to_pylist(), key=lambda row: order.index((row["question_set"], row["system"]))
        )
        return [
            SystemResult(
                row["question_set"],
                row["system"],
                row["questions"],
                {metric: row[metric] for metric in METRICS},
                self.difference(row["question_set"], row["system"], BASE),
            )
            for row in rows
        ]


def primary_set(rows: EvaluationRows) -> str:
    """Return the set the verdict is on.

    People's test questions where there are enough, about enough documents to prove anything; of
    these the ones about held-out documents where they are enough alone. Else synthetic test
    questions, else whatever there is.
    """
    *people, synthetic = REPORTING
    for name in people:
        enough = rows.count(name) >= rows.settings.min_gold
        if enough and rows.documents(name) >= MIN_CLUSTERS:
            return name
    found = [name for name in (synthetic, *people, *CHOOSING) if rows.count(name)]
    return found[0] if found else synthetic


def decide(rows: EvaluationRows, choices: dict[str, Any]) -> Verdict:
    """Walk from the base embedder up, taking each part only where its gain is proven.

    The tuned candidate is the best on the choosing questions; each step must beat what is held so
    far on the primary set: its whole 95% interval above zero, and its p value, corrected by Holm's
    method for the number of steps, at most .05. A step that the correction rules out is walked
    past, and what stood on it is measured anew. Of several second stages that pass, the one with
    the larger gain on the choosing questions is taken.
    """
    ruled_out: set[str] = set()
    while True:
        held, steps = _walk(rows, choices, ruled_out)
        claims = [s for s in steps if s.difference.low < s.difference.high]  # else both are alike
        adjusted = dict(zip(map(id, claims), holm([step.p for step in claims])))
        judged = [replace(step, p=adjusted.get(id(step), 1.0)) for step in steps]
        doubtful = {
            after.challenger for before, after in zip(steps, judged) if before.proven > after.proven
        }
        if not doubtful - ruled_out:
            break
        ruled_out |= doubtful
    name = primary_set(rows)
    to_base = rows.difference(name, held, BASE)
    return Verdict(name, held, judged, to_base, _sentence(rows, name, held, to_base))


def _walk(
    rows: EvaluationRows, choices: dict[str, Any], ruled_out: Collection[str]
) -> tuple[str, list[Step]]:
    """Return the system that the walk ends at, and its steps with uncorrected p values."""
    name = primary_set(rows)
    choosing = choices["chosen_on"]
    tuned = max(
        (s for s in TUNED if rows.has(name, s)), key=lambda s: rows.mean(choosing, s), default=None
    )
    held, steps = BASE, []
    candidates = [("BM25 beside the base embedder", UNTUNED), ("tuned retriever", tuned)]
    for part, challenger in candidates:
        if challenger is not None and rows.has(name, challenger):
            steps.append(rows.step(name, part, challenger, held))
            taken = steps[-1].proven and challenger not in ruled_out
            held = challenger if taken else held
    first = held
    proven: list[tuple[float, str]] = []
    for stage in STAGES:
        measured = [s for s in (first, UNTUNED) if rows.has(name, staged_name(s, stage))]
        if not measured:
            continue
        below = measured[0]
        challenger = staged_name(below, stage)
        weight = choices["second_stage_weights"].get(challenger, 0.0)
        part = f"{stage}, weight {weight:g} (chosen on {choosing})"
        step = rows.step(name, part, challenger, below)
        steps.append(step)
        if below == first and step.proven and weight > 0 and challenger not in ruled_out:
            proven.append((rows.difference(choosing, challenger, below).mean, challenger))
    return max(proven)[1] if proven else held, steps


def _sentence(rows: EvaluationRows, name: str, held: str, to_base: Difference) -> str:
    asked = {
        HELD_OUT: "people's test questions about documents no model was trained on",
        "gold_test": "people's test questions, most about documents that trained the models,",
        "gold_dev": "people's dev questions (too few to report on others)",
        "synthetic_test": "synthetic test questions",
        "synthetic_val": "synthetic val questions (there are no others)",
    }[name]
    if held == BASE:
        return f"Keep the base embedder: on {rows.count(name)} {asked} nothing is proven better."
    return (
        f"Use the {spoken(held)}: nDCG@10 {rows.mean(name, held):.3f} on {to_base.questions} "
        f"{asked}, {to_base} to the base embedder alone."
    )


def markdown_table(results: list[SystemResult], question_set: str) -> str:
    """Return one set's table in Markdown."""
    lines = [
        "| system | n | hit@1 | hit@5 | hit@10 | MRR@10 | nDCG@10 | recall@100 "
        "| nDCG@10 to base, 95% |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        if result.question_set == question_set:
            values = " | ".join(f"{result.means[metric]:.3f}" for metric in METRICS)
            difference = "" if result.system == BASE else str(result.to_base)
            lines.append(f"| {result.system} | {result.questions} | {values} | {difference} |")
    return "\n".join(lines)
