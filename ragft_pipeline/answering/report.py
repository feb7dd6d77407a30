"""The answering model's section of the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ragft_pipeline.answering.evaluation import BASE, PASSAGES, TUNED
from ragft_pipeline.answering.summary import AnsweringSummary
from ragft_pipeline.evaluation.report import REPORT_FILE, TEXT_FILE, Section, render_page
from ragft_pipeline.retrieval.question_sets import SYNTHETIC, TOMORROW
from ragft_pipeline.store import Workspace

SET_NAMES = {TOMORROW: "people's questions", SYNTHETIC: "test chats"}
_PASSED = {True: "yes", False: "no", None: "not asked"}
_SHOWN = 6


def write_answering_report(
    rows: pa.Table, summary: AnsweringSummary, facts: dict[str, Any], version: str, work: Workspace
) -> None:
    """Write the page, and its first lines as text.

    Args:
        rows, facts: of the llm_eval.
    """
    verdict, section = summary.verdict.sentence, answering_section(rows, summary, facts)
    page = render_page(
        "answering.html.j2", f"Which answering model to use: {version}", verdict, [section]
    )
    (work.folder / REPORT_FILE).write_text(page, encoding="utf-8")
    (work.folder / TEXT_FILE).write_text(f"Answering: {verdict}.", encoding="utf-8")


def answering_section(rows: pa.Table, summary: AnsweringSummary, facts: dict[str, Any]) -> Section:
    """Return what the page says of an LLM_EVAL table.

    Args:
        facts: of the artifact, for tokens a second.
    """
    return Section(
        "Base and tuned model on the same passages",
        sentences(summary, facts),
        answering_table(summary),
        {},
        "Both models get the same question and the same passages, the first that the "
        "chosen retriever finds; a test chat has its own. Token F1 and exact match have 1 for "
        "declining where no passage shown answers, and 0 for answering there. Intervals are of "
        "the paired difference, 95%, by units of questions that depend on each other; of "
        "perplexities, of the loss in nats a token.",
        side_by_side(rows),
    )


def sentences(summary: AnsweringSummary, facts: dict[str, Any]) -> list[str]:
    """Return what to know first."""
    verdict, shown = summary.verdict, SET_NAMES[summary.primary_set]
    found = [f"Measured on {shown}; none of their documents trained anything."]
    found += [f"{test.name}: {_PASSED[test.passed]}, {test.finding}." for test in verdict.tests]
    found += [verdict.power] if verdict.power else []
    keys = {system: f"{system}_tokens_a_second" for system in (BASE, TUNED)}
    rates = [f"{system} {facts[key]:.0f}" for system, key in keys.items() if key in facts]
    if rates:
        found.append(f"Tokens written a second: {', '.join(rates)}.")
    if "judge_accuracy" in facts:
        found.append(
            f"Faithfulness is judged by {facts['judge']}, which is right in "
            f"{facts['judge_accuracy']:.0%} of known cases."
        )
    return found


def answering_table(summary: AnsweringSummary) -> list[list[str]]:
    """Return rows of cells, the first row the header."""
    table = [["measure", "on", "n", "base", "tuned", "difference"]]
    for one in (*summary.measures, *summary.perplexities):
        perplexity = one in summary.perplexities
        name = "perplexity" if perplexity else one.name
        digits = 2 if perplexity else 3
        values = [f"{value:.{digits}f}" for value in (one.base, one.tuned)]
        where, number = SET_NAMES.get(one.question_set, one.name), str(one.difference.questions)
        table.append([name, where, number, *values, str(one.difference)])
    return table


def side_by_side(rows: pa.Table) -> list[tuple[str, Sequence[tuple[str, str]]]]:
    """Return questions with the reference and both models' answers."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows.to_pylist():
        if row["mode"] == PASSAGES:
            found.setdefault(row["question_id"], {})[row["system"]] = row
    shown = [pair for _, pair in sorted(found.items()) if BASE in pair and TUNED in pair][:_SHOWN]
    return [
        (
            pair[BASE]["question"],
            [
                ("reference", pair[BASE]["reference"]),
                (BASE, pair[BASE]["answer"]),
                (TUNED, pair[TUNED]["answer"]),
            ],
        )
        for pair in shown
    ]
