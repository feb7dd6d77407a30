"""Whether the router is better than the untuned selector: by people's questions alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.retrieval.question_sets import SERVED, SYNTHETIC, TOMORROW
from ragft_pipeline.routing.evaluation import ROUTER, UNTUNED, WORDS
from ragft_pipeline.routing.report import routing_section
from ragft_pipeline.routing.summary import RoutingRows
from ragft_pipeline.routing.verdict import RoutingVerdict, decide
from ragft_pipeline.settings import Settings

SETTINGS = Settings.model_validate({"evaluation": {"bootstrap": 500}})


def rows(
    gain: float, tomorrow: float = 0.0, questions: int = 80, name: str = SERVED, clusters: int = 20
) -> pa.Table:
    """Return rows in which the router gains so much on all questions, and more on held-out ones."""
    draw = np.random.default_rng(3)
    made: list[dict[str, Any]] = []
    for n in range(questions):
        luck, held_out = float(draw.uniform(0.2, 0.5)), n % 4 == 0
        for system in (ROUTER, UNTUNED, WORDS):
            better = gain + (tomorrow if held_out else 0.0) if system == ROUTER else 0.0
            made.append(
                {
                    "question_id": f"q{n:03}", "question": "why?", "question_set": name,
                    "system": system, "cluster": f"c{n % clusters}", "held_out": held_out,
                    "relevant": [f"n{n}"], "first_rank": 1, "recall_at_1": 1.0, "recall_at_5": 1.0,
                    "recall_at_10": 1.0, "confidence": 0.5, "picked": 2, "abstained": False,
                    "ndcg_first": luck + better + float(draw.normal(0.0, 0.05)),
                    "ndcg_picked": luck, "ndcg_all": luck, "ndcg_best": 1.0, "kind": "vector",
                    "best_kinds": [],
                }
            )  # fmt: skip
    return pa.Table.from_pylist(made, schema=schemas.ROUTER_EVAL.schema)


def verdict(table: pa.Table) -> RoutingVerdict:
    return decide(RoutingRows(table, SETTINGS.evaluation), SETTINGS.gate)


def test_a_gain_as_served_is_proven_and_the_power_is_said() -> None:
    found = verdict(rows(0.2))
    assert found.proven
    assert [test.name for test in found.tests] == ["superior", "not worse: people's held-out"]
    assert found.sentence.startswith("The router is better than the untuned selector: +0.199 [")
    assert "nDCG@10 of the first document on 80 people's questions" in found.sentence
    assert "80 questions about 20 documents" in found.power


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (rows(0.0), "no gain is proven"),
        (rows(0.3, tomorrow=-0.4), "people's held-out questions: it may be worse"),
    ],
)
def test_no_gain_or_one_that_tomorrow_takes_back_is_not_proven(table: pa.Table, why: str) -> None:
    found = verdict(table)
    assert not found.proven
    assert found.sentence.startswith("The router is not proven better")
    assert why in found.sentence


@pytest.mark.parametrize("people", [0, 12])
def test_synthetic_questions_decide_nothing(people: int) -> None:
    table = pa.concat_tables([rows(0.3, questions=people), rows(0.3, name=SYNTHETIC)])
    found = verdict(table)
    assert (found.proven, found.tests, found.power) == (False, (), "")
    assert ("no question of people" if not people else "only 12 questions") in found.sentence


def test_few_documents_are_taken_apart_by_passage() -> None:
    read = RoutingRows(rows(0.2, clusters=3), SETTINGS.evaluation)
    assert read.of_set(SERVED).regret_gain.clusters == 80


def test_the_page_says_it_first_and_held_out_questions_are_a_set() -> None:
    section = routing_section(rows(0.2), SETTINGS)
    assert section is not None
    assert section.sentences[0].startswith("The router is better")
    assert {row[0] for row in section.table[1:]} == {"as served", "tomorrow's documents"}
    assert RoutingRows(rows(0.2), SETTINGS.evaluation).sets == [SERVED, TOMORROW]
