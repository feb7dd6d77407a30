"""One claim says whether the tuned model should answer, on what people ask."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.answering.evaluation import BASE, GUARD, HELD_OUT, PASSAGES, TUNED
from ragft_pipeline.answering.report import answering_section
from ragft_pipeline.answering.summary import AnsweringSummary, summarise
from ragft_pipeline.retrieval.question_sets import SYNTHETIC, TOMORROW
from ragft_pipeline.settings import Settings

QUESTIONS, DOCUMENTS = 40, 10
SETTINGS = Settings.model_validate({"evaluation": {"bootstrap": 500}})


def evaluation(
    better: float, guard: float = 0.0, cited: float = 0.5, question_set: str = TOMORROW
) -> tuple[pa.Table, pa.Table]:
    """Return rows in which the tuned model is better by so much token F1 and citation precision."""
    draw = np.random.default_rng(13)
    rows: list[dict[str, Any]] = []
    for place in range(QUESTIONS):
        luck = float(draw.uniform(0.0, 0.3))
        for system in (BASE, TUNED):
            gain = better if system == TUNED else 0.0
            answerable = place % 2 == 0
            rows.append(
                {
                    "question_id": f"q{place}", "question": f"why {place}?",
                    "question_set": question_set, "system": system, "mode": PASSAGES,
                    "cluster": f"c{place % DOCUMENTS}", "held_out": True,
                    "sources": [f"n{place}"], "reference": "so",
                    "answer": "so [1]", "passages": ["a"], "relevant": [1] if answerable else [],
                    "cited": [1], "declined": not answerable and system == TUNED,
                    "token_f1": luck + gain, "exact_match": 0.0,
                    "citation_precision": cited * (system == TUNED) if answerable else None,
                    "faithfulness": 0.5, "prompt_tokens": 1, "completion_tokens": 1,
                }
            )  # fmt: skip
    losses = [
        {
            "text_id": f"{name}{n}", "text_set": name, "system": system, "cluster": f"{name}{n}",
            "loss": 3.0 + (np.log1p(guard) if system == TUNED else 0.0),
        }
        for name in (GUARD, HELD_OUT)
        for n in range(12)
        for system in (BASE, TUNED)
    ]  # fmt: skip
    return (
        pa.Table.from_pylist(rows, schema=schemas.LLM_EVAL.schema),
        pa.Table.from_pylist(losses, schema=schemas.LLM_LOSSES.schema),
    )


def summary(*arguments: float) -> AnsweringSummary:
    found = summarise(*evaluation(*arguments), SETTINGS)
    assert found is not None
    return found


def test_a_sure_gain_without_harm_answers_with_the_tuned_model() -> None:
    found = summary(0.2)
    assert found.verdict.system == TUNED
    measures = {measure.name: measure for measure in found.measures}
    assert measures["token F1"].difference.mean == pytest.approx(0.2)
    assert measures["citation precision"].difference.questions == QUESTIONS // 2
    assert measures["declines where no passage answers"].difference.mean == 1.0
    assert measures["answers where one does"].tuned == 1.0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0.0,), "token F1 on 40 people's held-out questions, p .*no gain is proven"),
        ((-0.1,), "token F1 where a passage answers on 20 .*worse"),
        ((0.2, 0.0, -0.5), "citation precision"),
        ((0.2, 0.06), r"perplexity of general text \+6.0%"),
    ],
)
def test_base_is_kept_where_something_is_not_shown(
    arguments: tuple[float, ...], reason: str
) -> None:
    verdict = summary(*arguments).verdict
    assert verdict.system == BASE
    assert verdict.sentence.startswith("keep base: ")
    assert re.search(reason, verdict.sentence)


def test_no_tuned_model_has_no_summary() -> None:
    rows, losses = evaluation(0.2)
    base = rows.filter(pc.equal(rows.column("system"), BASE))
    assert summarise(base, losses, SETTINGS) is None


def test_test_chats_alone_decide_nothing() -> None:
    found = summarise(*evaluation(0.3, question_set=SYNTHETIC), SETTINGS)
    assert found is not None
    assert found.measures[0].difference.low > 0
    assert (found.verdict.system, found.verdict.tests) == (BASE, ())
    assert "people asked too little" in found.verdict.sentence


def test_questions_about_few_documents_depend_on_each_other_by_passage() -> None:
    rows, losses = evaluation(0.3)
    one = pa.array(["c"] * rows.num_rows)
    rows = rows.set_column(rows.schema.get_field_index("cluster"), "cluster", one)
    found = summarise(rows, losses, SETTINGS)
    assert found is not None
    assert found.measures[0].difference.clusters == QUESTIONS
    assert "about 1 documents" in found.verdict.power


def test_the_section_shows_answers_side_by_side() -> None:
    rows, losses = evaluation(0.2)
    found = summarise(rows, losses, SETTINGS)
    assert found is not None
    section = answering_section(rows, found, {"judge": "late interaction", "judge_accuracy": 0.9})
    assert section.sentences[-1].startswith("Faithfulness is judged by late interaction")
    assert any(line.startswith("superior: yes, +") for line in section.sentences)
    assert found.verdict.power in section.sentences
    assert section.table[0] == ["measure", "on", "n", "base", "tuned", "difference"]
    question, answers = section.examples[0]
    assert question.startswith("why ")
    assert [name for name, _ in answers] == ["reference", BASE, TUNED]
