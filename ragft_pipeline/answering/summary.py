"""What an LLM_EVAL says: base against tuned, and whether the tuned model should answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from ragft_pipeline.evaluation.significance import Difference, paired_difference
from ragft_pipeline.settings import EvaluationSettings

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
    """Which model should answer, and the reason a person reads."""

    system: str
    sentence: str


@dataclass(frozen=True)
class AnsweringSummary:
    """All measures, the perplexities, and the verdict."""

    primary_set: str
    measures: tuple[Measure, ...]
    perplexities: tuple[Measure, ...]
    guard_change: float
    verdict: Verdict


_MEASURES: tuple[tuple[str, str, Callable[[Row], float | None]], ...] = (
    ("token F1", PASSAGES, lambda row: row["token_f1"]),
    ("exact match", PASSAGES, lambda row: row["exact_match"]),
    ("citation precision", PASSAGES, lambda row: row["citation_precision"]),
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
DECIDING = ("token F1", "citation precision")


def summarise(
    rows: pa.Table, losses: pa.Table, max_guard_loss: float, settings: EvaluationSettings
) -> AnsweringSummary | None:
    """Return the summary of LLM_EVAL and LLM_LOSSES tables; None without a tuned model."""
    sets = sorted(pc.unique(rows.column("question_set")).to_pylist())  # gold before synthetic
    of_set = {name: _by_system(rows, name) for name in sets}
    if not sets or TUNED not in of_set[sets[0]]:
        return None
    measures = [
        found
        for question_set, by_system in of_set.items()
        for name, mode, value in _MEASURES
        if (found := _measure(name, question_set, mode, value, by_system, settings)) is not None
    ]
    perplexities = [
        found for name in (GUARD, HELD_OUT) if (found := _perplexity(name, losses, settings))
    ]
    guard = next((one for one in perplexities if one.name == GUARD), None)
    change = guard.tuned / guard.base - 1 if guard else math.nan
    deciding = [measure for measure in measures if measure.question_set == sets[0]]
    return AnsweringSummary(
        sets[0],
        tuple(measures),
        tuple(perplexities),
        change,
        decide(deciding, change, max_guard_loss),
    )


def decide(measures: Sequence[Measure], guard_change: float, max_guard_loss: float) -> Verdict:
    """Say which model should answer: the tuned one only where it is surely better and unharmed."""
    found = {measure.name: measure for measure in measures}
    short = [
        f"{name} {found[name].difference if name in found else 'not measured'}"
        for name in DECIDING
        if name not in found or not found[name].difference.gain
    ]
    if guard_change > max_guard_loss:
        short.append(f"perplexity of general text {guard_change:+.1%}")
    if short:
        return Verdict(BASE, f"keep base: {'; '.join(short)}")
    gains = ", ".join(f"{name} {found[name].difference}" for name in DECIDING)
    return Verdict(TUNED, f"answer with the tuned model: {gains}")


def _by_system(rows: pa.Table, question_set: str) -> dict[str, dict[tuple[str, str], Row]]:
    found: dict[str, dict[tuple[str, str], Row]] = {}
    for row in rows.filter(pc.equal(rows.column("question_set"), question_set)).to_pylist():
        found.setdefault(row["system"], {})[row["question_id"], row["mode"]] = row
    return found


def _measure(
    name: str,
    question_set: str,
    mode: str,
    value: Callable[[Row], float | None],
    by_system: dict[str, dict[tuple[str, str], Row]],
    settings: EvaluationSettings,
) -> Measure | None:
    """Compare on the questions where both have a value: a refusal has no faithfulness."""
    both = [
        (row, by_system[TUNED][key])
        for key, row in sorted(by_system[BASE].items())
        if row["mode"] == mode and key in by_system[TUNED]
    ]
    valued = [
        (before, after, row["cluster"])
        for row, other in both
        if (before := value(row)) is not None and (after := value(other)) is not None
    ]
    if not valued:
        return None
    base, tuned = (np.array([one[side] for one in valued], float) for side in (0, 1))
    clusters = [cluster for _, _, cluster in valued]
    difference = paired_difference(tuned, base, clusters, settings.bootstrap, settings.seed)
    return Measure(name, question_set, float(base.mean()), float(tuned.mean()), difference)


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
    difference = paired_difference(tuned, base, places, settings.bootstrap, settings.seed)
    return Measure(name, name, float(np.exp(base.mean())), float(np.exp(tuned.mean())), difference)
