from __future__ import annotations

import pyarrow as pa
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.retrieval.question_sets import (
    PEOPLE,
    RelevanceIndex,
    first_asked,
    gold_set,
    questions_that_choose,
    synthetic_set,
)

NODES = pa.table(
    {
        "node_id": ["n1", "n2", "n3", "n1"],
        "doc_key": ["a", "a", "a", "copy"],
        "start_char": [0, 80, 180, 10],
        "end_char": [100, 200, 300, 110],
    }
)
COLUMN = {"n1": 0, "n2": 1, "n3": 2}
INDEX = RelevanceIndex(NODES, COLUMN)


@pytest.mark.parametrize(
    ("spans", "nodes"),
    [
        ([(10, 20)], {0}),
        ([(85, 95)], {0, 1}),
        ([(0, 100)], {0}),
        ([(10, 20), (250, 260)], {0, 2}),
        ([(90, 120)], {1}),
        ([(150, 290)], {2}),
        ([(60, 260)], {1}),
        ([(0, 300)], {0, 1, 2}),
        ([(400, 410)], set()),
        ([], set()),
    ],
)
def test_the_nodes_that_hold_a_span_are_right(
    spans: list[tuple[int, int]], nodes: set[int]
) -> None:
    assert INDEX.nodes_with("a", spans) == nodes


def test_a_span_of_an_unknown_document_is_nowhere() -> None:
    assert INDEX.nodes_with("gone", [(0, 5)]) == frozenset()


def test_a_node_of_two_documents_is_found_in_both() -> None:
    assert INDEX.nodes_with("copy", [(20, 30)]) == {0}


def gold_rows(count: int) -> pa.Table:
    rows = [
        {
            "question_id": f"q{n}", "question": f"Question {n}?", "doc_key": "a",
            "cluster": "c", "split": ("val", "test", "train")[n % 3],
            "answers": [{"start": 10 if n < 6 else 900, "end": 20 if n < 6 else 910}],
        }
        for n in reversed(range(count))
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schemas.GOLD_QUESTIONS.schema)


def test_a_gold_set_holds_what_some_node_answers_in_the_order_of_ids() -> None:
    chosen = gold_set(PEOPLE, gold_rows(8), INDEX)
    assert chosen.ids == ["q0", "q1", "q2", "q3", "q4", "q5"]
    assert chosen.held_out == [False, True, False, False, True, False]
    assert chosen.relevant == [frozenset({0})] * 6
    assert len(chosen) == 6


@pytest.mark.parametrize(("held_out", "asked"), [(True, 6), (False, 4)])
def test_questions_about_test_documents_choose_only_where_they_may(
    held_out: bool, asked: int
) -> None:
    nothing = schemas.QA_PAIRS.schema.empty_table()
    chosen = questions_that_choose(gold_rows(8), nothing, NODES, COLUMN, 1, held_out)
    assert (chosen.name, len(chosen)) == (PEOPLE, asked)
    assert any(chosen.held_out) == held_out


def test_a_synthetic_question_counts_its_own_node_and_every_other_with_the_answer() -> None:
    rows = [
        {"question_id": "q2", "question": "b", "kind": "claim", "generator": "extractive",
         "node_id": "n3", "doc_key": "a", "cluster": "c", "answer_start": 85, "answer_end": 95},
        {"question_id": "q1", "question": "a", "kind": "claim", "generator": "extractive",
         "node_id": "n1", "doc_key": "a", "cluster": "c", "answer_start": 10, "answer_end": 20},
    ]  # fmt: skip
    pairs = pa.Table.from_pylist(rows, schema=schemas.QA_PAIRS.schema)
    chosen = synthetic_set("synthetic_test", pairs, INDEX, COLUMN, True)
    assert chosen.ids == ["q1", "q2"]
    assert chosen.relevant == [frozenset({0}), frozenset({0, 1, 2})]
    assert chosen.held_out == [True, True]


def test_the_first_pairs_are_all_of_the_first_questions() -> None:
    asked = {"q4": "c", "q1": "b", "q3": "a", "q2": "b", "q5": "a"}
    pairs = pa.table({"question_id": list(asked), "question": list(asked.values())})
    assert first_asked(pairs, 1).column("question_id").to_pylist() == ["q1", "q2"]
    assert first_asked(pairs, 2).column("question_id").to_pylist() == ["q1", "q3", "q2", "q5"]
    assert first_asked(pairs, 9).num_rows == 5


def test_the_first_questions_are_of_held_out_documents_then_by_id() -> None:
    chosen = gold_set(PEOPLE, gold_rows(8), INDEX)
    held_out = dict(zip(chosen.ids, chosen.held_out))
    ranked = sorted(chosen.ids, key=lambda name: (not held_out[name], name))
    assert chosen.first(2).ids == ranked[:2]
    assert len(chosen.first(99)) == 6
    assert len(chosen.first(0)) == 0


def test_a_question_is_answered_by_spans_of_several_documents_or_by_whole_ones() -> None:
    spans = {
        "doc_key": "a", "whole": [],
        "answers": [
            {"start": 85, "end": 95, "doc_key": "a"}, {"start": 20, "end": 30, "doc_key": "copy"},
        ],
    }  # fmt: skip
    assert INDEX.answering(spans) == {0, 1}
    assert INDEX.answering({"doc_key": "a", "whole": ["a"], "answers": []}) == {0, 1, 2}
    assert INDEX.answering({"doc_key": "a", "whole": ["copy"], "answers": []}) == {0}


def test_a_node_takes_the_best_grade_of_what_it_holds_and_what_was_rejected_is_zero() -> None:
    row = {
        "doc_key": "a", "whole": ["copy"], "whole_grades": [1],
        "answers": [
            {"start": 85, "end": 95, "doc_key": "a", "grade": 2},
            {"start": 86, "end": 90, "doc_key": "a", "grade": 1},
        ],
        "rejected": [
            {"start": 20, "end": 30, "doc_key": "a"}, {"start": 190, "end": 195, "doc_key": "a"},
        ],
    }  # fmt: skip
    grades = INDEX.grades(row)
    assert {node for node, grade in grades.items() if grade} == INDEX.answering(row)
    assert grades == {0: 2, 1: 2, 2: 0}
    plain = {"doc_key": "a", "whole": [], "answers": [{"start": 85, "end": 95, "doc_key": "a"}]}
    assert INDEX.grades(plain) == dict.fromkeys(INDEX.answering(plain), 1)
