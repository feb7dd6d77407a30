from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.evaluation.choosing import Choice, Choices
from ragft_pipeline.evaluation.names import BASE, CANDIDATE
from ragft_pipeline.evaluation.second_stages import RANKER, staged_name
from ragft_pipeline.evaluation.summary import UNTUNED, EvaluationRows, Verdict, decide, primary_set
from ragft_pipeline.evaluation.systems import hybrid_name
from ragft_pipeline.retrieval.metrics import METRICS
from ragft_pipeline.retrieval.question_sets import SERVED, SYNTHETIC, TOMORROW
from ragft_pipeline.settings import EvaluationSettings, GateSettings

SETTINGS = EvaluationSettings(bootstrap=500, min_gold=20)
TUNED, RANKED = hybrid_name("adapter"), staged_name(UNTUNED, RANKER)


def rows_of(
    systems: Mapping[str, float],
    question_set: str = SERVED,
    questions: int = 60,
    seed: int = 1,
    noise: float = 0.02,
    documents: int = 20,
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
                    "system": system, "cluster": f"c{number % documents}",
                    "held_out": question_set == TOMORROW,
                    "relevant": [f"n{number}"], "top_nodes": ["n"], "first_rank": 1,
                    **dict.fromkeys(METRICS, float(score)),
                }
            )  # fmt: skip
    return rows


def evaluated(*parts: list[dict[str, Any]]) -> EvaluationRows:
    rows = [row for part in parts for row in part]
    return EvaluationRows(pa.Table.from_pylist(rows, schema=schemas.EVAL_ROWS.schema), SETTINGS)


def choices_of(system: str, questions: int = 60) -> Choices:
    return Choices(questions, Choice(system, {}), {})


def decided(
    systems: Mapping[str, float],
    system: str,
    tomorrow: Mapping[str, float] | None = None,
    **rows: Any,
) -> Verdict:
    """Return the verdict where the questions chose a system, which did as well in their folds."""
    parts = [rows_of({**systems, CANDIDATE: systems[system]}, **rows)]
    if tomorrow:
        parts.append(rows_of({**tomorrow, CANDIDATE: tomorrow[system]}, TOMORROW, **rows))
    return decide(evaluated(*parts), choices_of(system), GateSettings())


def test_one_claim_decides_on_the_whole_system() -> None:
    systems = {BASE: 0.4, UNTUNED: 0.5, RANKED: 0.6, f"{TUNED} + {RANKER}": 0.605}
    verdict = decided(systems, f"{TUNED} + {RANKER}", systems)
    assert verdict.proven
    assert verdict.recommended == verdict.candidate == f"{TUNED} + {RANKER}"
    assert [test.name for test in verdict.tests] == ["superior", "not worse: people's held-out"]
    assert "to the untuned hybrid" in verdict.sentence


def test_what_each_part_adds_is_shown_and_decides_nothing() -> None:
    systems = {BASE: 0.4, UNTUNED: 0.5, TUNED: 0.5, RANKED: 0.65, f"{TUNED} + {RANKER}": 0.6}
    verdict = decided(systems, f"{TUNED} + {RANKER}")
    assert verdict.recommended == f"{TUNED} + {RANKER}"
    parts = {part.part: (part.without, part.difference) for part in verdict.ablations}
    assert (parts[RANKER][0], parts["tuning"][0]) == (TUNED, RANKED)
    assert parts[RANKER][1].gain
    assert parts["tuning"][1].loss  # though the claim holds


def test_the_untuned_hybrid_is_kept_where_the_claim_fails() -> None:
    verdict = decided({BASE: 0.4, UNTUNED: 0.5, RANKED: 0.501}, RANKED, noise=0.1)
    assert not verdict.proven
    assert verdict.recommended == UNTUNED
    assert verdict.sentence.startswith("Keep the untuned hybrid: nDCG@10 0.")
    assert "not proven better" in verdict.sentence
    assert verdict.power.startswith("With these 60 questions about 20 documents a gain under 0.0")


def test_a_loss_on_tomorrows_documents_keeps_it_out() -> None:
    served = {BASE: 0.4, UNTUNED: 0.5, TUNED: 0.6}
    verdict = decided(served, TUNED, {BASE: 0.4, UNTUNED: 0.5, TUNED: 0.45})
    assert [test.passed for test in verdict.tests] == [True, False]
    assert verdict.recommended == UNTUNED


def test_a_base_that_is_best_is_kept() -> None:
    verdict = decided({BASE: 0.6, UNTUNED: 0.55, TUNED: 0.56, RANKED: 0.57}, BASE)
    assert verdict.recommended == BASE
    assert verdict.to_base.mean == 0


def test_where_the_questions_choose_the_untuned_hybrid_nothing_is_tested() -> None:
    verdict = decided({BASE: 0.5, UNTUNED: 0.55, RANKED: 0.55}, UNTUNED)
    assert (verdict.recommended, verdict.tests) == (UNTUNED, [])
    assert "choose nothing beside it" in verdict.sentence
    assert verdict.power


def test_without_peoples_questions_the_shipped_system_is_served_and_said_so_first() -> None:
    rows = evaluated(rows_of({BASE: 0.6, UNTUNED: 0.9, RANKED: 0.5, CANDIDATE: 0.5}, SYNTHETIC))
    verdict = decide(rows, choices_of(RANKED, 0), GateSettings())
    assert (verdict.recommended, verdict.tests, verdict.power) == (RANKED, [], "")
    assert verdict.sentence.startswith("There is no question of people to decide with")


@pytest.mark.parametrize(("people", "name"), [(60, SERVED), (19, SYNTHETIC)])
def test_synthetic_questions_never_decide_against_enough_of_peoples(people: int, name: str) -> None:
    rows = evaluated(rows_of({BASE: 0.5}, questions=people), rows_of({BASE: 0.4}, SYNTHETIC))
    assert primary_set(rows) == name


def test_questions_about_few_documents_depend_on_each_other_by_passage() -> None:
    many, few = (evaluated(rows_of({BASE: 0.5}, documents=number)) for number in (20, 4))
    assert len({unit for _, unit in many.scores(SERVED, BASE).values()}) == 20
    assert len({unit for _, unit in few.scores(SERVED, BASE).values()}) == 60
    assert few.documents(SERVED) == 4


def test_an_empty_evaluation_keeps_the_shipped_system() -> None:
    verdict = decide(evaluated(), choices_of(RANKED, 0), GateSettings())
    assert verdict.recommended == RANKED
    assert verdict.to_base.questions == 0


def test_results_have_means_and_differences_to_base() -> None:
    results = evaluated(rows_of({BASE: 0.4, TUNED: 0.5})).results()
    assert [result.system for result in results] == [BASE, TUNED]
    assert results[1].means["ndcg_at_10"] - results[0].means["ndcg_at_10"] == pytest.approx(
        results[1].to_base.mean
    )
    assert results[1].to_base.gain
