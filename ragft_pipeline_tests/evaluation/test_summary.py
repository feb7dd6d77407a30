from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.evaluation.second_stages import RERANKER, staged_name
from ragft_pipeline.evaluation.summary import (
    BASE,
    EvaluationRows,
    decide,
    markdown_table,
    primary_set,
)
from ragft_pipeline.evaluation.systems import hybrid_name
from ragft_pipeline.retrieval.metrics import METRICS
from ragft_pipeline.retrieval.question_sets import HELD_OUT
from ragft_pipeline.settings import EvaluationSettings

SETS = ("gold_test", "gold_dev", HELD_OUT)
SETTINGS = EvaluationSettings(bootstrap=500, min_gold=20)
CHOICES: dict[str, Any] = {"chosen_on": "gold_dev", "second_stage_weights": {}}
UNTUNED = hybrid_name(BASE)
RERANKED = staged_name(UNTUNED, RERANKER)
ADAPTER, EMBEDDER = hybrid_name("adapter"), hybrid_name("tuned_embedder")


def rows_of(
    systems: Mapping[str, float],
    question_set: str = "gold_test",
    questions: int = 60,
    seed: int = 1,
    noise: float = 0.02,
) -> list[dict[str, Any]]:
    """Return rows of systems by name with their mean score, over the same questions."""
    draw = np.random.default_rng(seed)
    hardness = draw.normal(0, 0.1, questions)
    rows = []
    for system, mean in systems.items():
        own = mean + hardness + draw.normal(0, noise, questions)
        for number, score in enumerate(own):
            rows.append(
                {
                    "question_id": f"q{number}", "question": "?", "question_set": question_set,
                    "system": system, "cluster": f"c{number % 20}", "held_out": number % 2 == 0,
                    "relevant": ["n"], "top_nodes": ["n"], "first_rank": 1,
                    **dict.fromkeys(METRICS, float(score)),
                }
            )  # fmt: skip
    return rows


def evaluated(*parts: list[dict[str, Any]]) -> EvaluationRows:
    rows = [row for part in parts for row in part]
    return EvaluationRows(pa.Table.from_pylist(rows, schema=schemas.EVAL_ROWS.schema), SETTINGS)


def both(systems: Mapping[str, float], dev: Mapping[str, float] | None = None) -> EvaluationRows:
    return evaluated(rows_of(systems), rows_of(dev or systems, "gold_dev", seed=2))


def test_the_base_is_kept_where_nothing_is_proven() -> None:
    systems = {BASE: 0.5, UNTUNED: 0.5, "adapter": 0.5, ADAPTER: 0.5}
    verdict = decide(evaluated(rows_of(systems), rows_of(systems, "gold_dev")), CHOICES)
    assert verdict.recommended == BASE
    assert verdict.sentence.startswith("Keep the base embedder: on 30 people's test questions")
    assert not any(step.decision == "use" for step in verdict.steps)
    assert (verdict.to_base.mean, verdict.to_base.gain) == (0, False)


def test_what_is_proven_is_used_step_by_step() -> None:
    verdict = decide(both({BASE: 0.4, UNTUNED: 0.5, "adapter": 0.45, ADAPTER: 0.6}), CHOICES)
    assert verdict.recommended == ADAPTER
    assert [(s.challenger, s.reference, s.decision) for s in verdict.steps] == [
        (UNTUNED, BASE, "use"),
        (ADAPTER, UNTUNED, "use"),
    ]
    assert verdict.to_base.mean == pytest.approx(0.2, abs=0.02)
    assert verdict.sentence.startswith("Use the base embedder + maps, with BM25: nDCG@10 0.")


def test_a_tuned_retriever_must_beat_bm25_beside_the_base() -> None:
    verdict = decide(both({BASE: 0.4, UNTUNED: 0.6, ADAPTER: 0.5}), CHOICES)
    assert verdict.recommended == UNTUNED
    assert verdict.steps[1].decision == "leave out"


def test_the_tuned_candidate_is_chosen_on_the_choosing_questions() -> None:
    rows = both({BASE: 0.4, ADAPTER: 0.8, EMBEDDER: 0.6}, {BASE: 0.4, ADAPTER: 0.5, EMBEDDER: 0.7})
    verdict = decide(rows, CHOICES)
    assert verdict.recommended == EMBEDDER


def test_a_reranker_is_used_where_it_is_proven_on_what_is_held() -> None:
    systems = {BASE: 0.4, UNTUNED: 0.5, RERANKED: 0.6}
    choices = CHOICES | {"second_stage_weights": {RERANKED: 0.3}}
    verdict = decide(both(systems), choices)
    assert verdict.recommended == RERANKED
    assert verdict.steps[-1].part == "reranker, weight 0.3 (chosen on gold_dev)"
    assert decide(both(systems), CHOICES).recommended == UNTUNED


def test_a_reranker_of_a_part_that_is_not_held_is_only_reported() -> None:
    systems = {BASE: 0.6, UNTUNED: 0.4, RERANKED: 0.5}
    verdict = decide(both(systems), CHOICES | {"second_stage_weights": {RERANKED: 0.3}})
    assert verdict.recommended == BASE
    assert verdict.steps[-1].challenger == RERANKED


def test_a_reranker_run_on_fewer_questions_is_compared_on_those() -> None:
    rows = evaluated(rows_of({BASE: 0.4, UNTUNED: 0.5}), rows_of({RERANKED: 0.7}, questions=40))
    found = rows.difference("gold_test", RERANKED, UNTUNED)
    assert (found.questions, found.gain) == (40, True)


@pytest.mark.parametrize(("gold", "name"), [(20, "gold_test"), (19, "synthetic_test")])
def test_people_decide_where_there_are_enough_of_their_questions(gold: int, name: str) -> None:
    rows = evaluated(rows_of({BASE: 0.5}, questions=gold), rows_of({BASE: 0.5}, "synthetic_test"))
    assert primary_set(rows) == name
    assert decide(rows, CHOICES).primary_set == name


def test_an_evaluation_without_questions_keeps_the_base() -> None:
    verdict = decide(evaluated(), CHOICES)
    assert verdict.recommended == BASE
    assert verdict.steps == []


def test_results_are_in_the_order_they_were_run() -> None:
    rows = both({"bm25": 0.3, BASE: 0.4, ADAPTER: 0.5})
    results = rows.results()
    assert [(r.question_set, r.system) for r in results] == [
        (name, system) for name in SETS for system in ("bm25", BASE, ADAPTER)
    ]
    for result in results:
        expected = rows.mean(result.question_set, result.system)
        assert result.means["ndcg_at_10"] == pytest.approx(expected)
    assert results[0].to_base.loss
    assert results[2].to_base.gain


def test_the_table_leaves_the_base_without_a_difference() -> None:
    lines = markdown_table(both({BASE: 0.4, ADAPTER: 0.5}).results(), "gold_test").splitlines()
    assert len(lines) == 4
    assert lines[2].startswith(f"| {BASE} | 60 |")
    assert lines[2].endswith("|  |")
    assert "[+0." in lines[3]


def test_held_out_questions_are_those_of_test_documents() -> None:
    rows = both({BASE: 0.4, ADAPTER: 0.5})
    assert rows.count(HELD_OUT) == 30
    assert rows.count("gold_test") == 60
