"""What an LLM_EVAL says: base against tuned, and whether the tuned model should answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.answering.evaluation import (
    BASE,
    CLOSED_BOOK,
    GUARD,
    HELD_OUT,
    PASSAGES,
    TUNED,
)
from ragft_pipeline.evaluation.claim import ClaimTest, Paired, not_worse, superior
from ragft_pipeline.evaluation.power import power_sentence
from ragft_pipeline.evaluation.significance import Difference, units_of
from ragft_pipeline.retrieval.question_sets import SYNTHETIC, TOMORROW
from ragft_pipeline.settings import EvaluationSettings, Settings

Row = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """A measure of both models on the same questions or texts, of one set."""

    name: str
    question_set: str
    base: float
    tuned: float
    difference: Difference


@dataclass(frozen=True)
class Verdict:
    """Which model should answer, and the reason a person reads.

    Attributes:
        tests: of the claim that the tuned model answers better; none without people's questions.
        power: what gain these questions could have shown.
    """

    system: str
    sentence: str
    tests: tuple[ClaimTest, ...] = ()
    power: str = ""


@dataclass(frozen=True)
class AnsweringSummary:
    """All measures, the perplexities, and the verdict."""

    primary_set: str
    measures: tuple[Measure, ...]
    perplexities: tuple[Measure, ...]
    guard_change: float
    verdict: Verdict


DECIDING = "token F1"
_ANSWERED, _CITED = "token F1 where a passage answers", "citation precision"
_MEASURES: tuple[tuple[str, str, Callable[[Row], float | None]], ...] = (
    (DECIDING, PASSAGES, lambda row: row["token_f1"]),
    (_ANSWERED, PASSAGES, lambda row: row["token_f1"] if row["relevant"] else None),
    ("exact match", PASSAGES, lambda row: row["exact_match"]),
    (_CITED, PASSAGES, lambda row: row["citation_precision"]),
    ("faithfulness", PASSAGES, lambda row: row["faithfulness"]),
    (
        "declines where no passage answers",
        PASSAGES,
        lambda row: None if row["relevant"] else float(row["declined"]),
    ),
    (
        "answers where one does",
        PASSAGES,
        lambda row: float(not row["declined"]) if row["relevant"] else None,
    ),
    ("token F1, closed book", CLOSED_BOOK, lambda row: row["token_f1"]),
)


def summarise(rows: pa.Table, losses: pa.Table, settings: Settings) -> AnsweringSummary | None:
    """Return the summary of LLM_EVAL and LLM_LOSSES tables; None without a tuned model."""
    of_set = {name: list(_pairs(_by_system(rows, name))) for name in (TOMORROW, SYNTHETIC)}
    pairs = {name: part for name, part in of_set.items() if part}
    if not pairs:
        return None
    measures = [
        _measure(name, pair, settings.evaluation) for name, part in pairs.items() for pair in part
    ]
    perplexities = [
        one for name in (GUARD, HELD_OUT) if (one := _perplexity(name, losses, settings.evaluation))
    ]
    guard = next((one for one in perplexities if one.name == GUARD), None)
    change = guard.tuned / guard.base - 1 if guard else math.nan
    documents = pc.count_distinct(
        rows.filter(pc.equal(rows.column("question_set"), TOMORROW)).column("cluster")
    ).as_py()
    return AnsweringSummary(
        next(iter(pairs)),
        tuple(measures),
        tuple(perplexities),
        change,
        decide(pairs.get(TOMORROW, []), documents, change, settings),
    )


def decide(
    pairs: Sequence[Paired], documents: int, guard_change: float, settings: Settings
) -> Verdict:
    """Say which model should answer: the tuned one only where one claim says that it is better.

    More token F1 on people's questions, declines counted, at the level of a first candidate; not
    worse where a passage answers, so that declining alone is no gain, nor in its citations; and
    general text no less readable to it than the guard allows.

    Args:
        pairs: of people's questions, by measure.
        documents: that these questions are about.
        guard_change: of the perplexity of general text, as a share; NaN where nobody could tell.
    """
    asked = {pair.measure: pair for pair in pairs}
    if DECIDING not in asked:
        return Verdict(
            BASE,
            "keep base: people asked too little about held-out documents (evaluation.min_gold) to "
            "decide with, and test chats decide nothing",
        )
    gate, evaluation = settings.gate, settings.evaluation
    level, deciding = gate.alpha / 2, asked[DECIDING]
    tests = [superior(deciding, level, gate, evaluation)]
    for name in (_ANSWERED, _CITED):
        if name in asked:
            tests.append(
                replace(not_worse(asked[name], gate, evaluation), name=f"not worse: {name}")
            )
        else:
            finding = f"{name} is not measured: no passage shown answers any question"
            tests.append(ClaimTest(f"not worse: {name}", False, finding, {}))
    tests.append(_guarded(guard_change, settings.tuned_llm.max_guard_loss))
    power = power_sentence(
        deciding.candidate - deciding.reference, deciding.units, f"{documents} documents", level
    )
    unasked = [f"not asked: {test.finding}" for test in tests if test.passed is None]
    failed = [test.finding for test in tests if test.passed is False]
    if failed:
        return Verdict(BASE, f"keep base: {'; '.join([*failed, *unasked])}", tuple(tests), power)
    said = "; ".join([tests[0].finding, *unasked])
    return Verdict(TUNED, f"answer with the tuned model: {said}", tuple(tests), power)


def _guarded(change: float, limit: float) -> ClaimTest:
    """Say whether general text became no harder for the tuned model than the guard allows."""
    name = "guard"
    if math.isnan(change):
        finding = "perplexity of general text, which the service does not tell"
        return ClaimTest(name, None, finding, {})
    finding = f"perplexity of general text {change:+.1%}, at most {limit:+.1%}"
    return ClaimTest(name, change <= limit, finding, {"change": change})


def _by_system(rows: pa.Table, question_set: str) -> dict[str, dict[tuple[str, str], Row]]:
    found: dict[str, dict[tuple[str, str], Row]] = {BASE: {}, TUNED: {}}
    for row in rows.filter(pc.equal(rows.column("question_set"), question_set)).to_pylist():
        found[row["system"]][row["question_id"], row["mode"]] = row
    return found


def _pairs(by_system: dict[str, dict[tuple[str, str], Row]]) -> Iterator[Paired]:
    """Yield each measure on the questions where both have a value.

    A refusal has no faithfulness.
    """
    both = [
        (row, by_system[TUNED][key])
        for key, row in sorted(by_system[BASE].items())
        if key in by_system[TUNED]
    ]
    sources = [row.get("sources") or [row["question_id"]] for row, _ in both]  # older rows: none
    units = units_of([row["cluster"] for row, _ in both], sources)
    for name, mode, value in _MEASURES:
        valued = [
            (before, after, unit)
            for (row, other), unit in zip(both, units)
            if row["mode"] == mode
            and (before := value(row)) is not None
            and (after := value(other)) is not None
        ]
        if valued:
            base, tuned = (np.array([one[side] for one in valued], float) for side in (0, 1))
            own = [unit for _, _, unit in valued]
            yield Paired("people's held-out", tuned, base, own, name)


def _measure(question_set: str, pair: Paired, settings: EvaluationSettings) -> Measure:
    base, tuned = float(pair.reference.mean()), float(pair.candidate.mean())
    return Measure(pair.measure, question_set, base, tuned, pair.difference(settings))


def _perplexity(name: str, losses: pa.Table, settings: EvaluationSettings) -> Measure | None:
    """Compare perplexities; the difference and its interval are of the loss, in nats a token."""
    found: dict[str, dict[str, float]] = {BASE: {}, TUNED: {}}
    clusters: dict[str, str] = {}
    for row in losses.to_pylist():
        if row["text_set"] == name and not math.isnan(row["loss"]):
            found[row["system"]][row["text_id"]] = row["loss"]
            clusters[row["text_id"]] = row["cluster"]
    shared = sorted(set(found[BASE]) & set(found[TUNED]))
    if not shared:
        return None
    base, tuned = (np.array([found[s][one] for one in shared]) for s in (BASE, TUNED))
    places = [clusters[one] for one in shared]
    difference = Paired(name, tuned, base, places).difference(settings)
    return Measure(name, name, float(np.exp(base.mean())), float(np.exp(tuned.mean())), difference)
