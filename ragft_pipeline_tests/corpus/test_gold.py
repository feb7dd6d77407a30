from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.corpus.gold import find_span, read_gold_questions

TEXT = "The valve opens at 6 bar.\nCheck it\nyearly. The valve opens at 6 bar again."
DOCUMENTS = pa.Table.from_pylist(
    [
        {"path": "a.md", "doc_key": "k", "cluster": "c", "split": "test", "gold_part": "test"},
        {"path": "b.md", "doc_key": "k2", "cluster": "c2", "split": "val", "gold_part": "dev"},
    ],
    schema=schemas.DOCUMENTS.schema,
)
TEXTS = {"k": TEXT, "k2": "锅炉每年检修一次。"}


def read(*lines: str | dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    text = "\n".join(
        line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines
    )
    table, left_out = read_gold_questions(text, DOCUMENTS, TEXTS.__getitem__)
    assert table.schema == schemas.GOLD_QUESTIONS.schema
    return table.to_pylist(), left_out


def gold(**fields: Any) -> dict[str, Any]:
    return {"question": "When?", "doc": "a.md", "answer_text": "valve opens"} | fields


def spans(row: dict[str, Any]) -> list[str]:
    return [TEXT[answer["start"] : answer["end"]] for answer in row["answers"]]


def test_a_question_gets_its_document_part_and_span() -> None:
    rows, left_out = read(gold(answer_text="Check it yearly."))
    assert left_out == {}
    assert spans(rows[0]) == ["Check it\nyearly."]
    assert {name: rows[0][name] for name in ("doc_key", "cluster", "part", "split")} == {
        "doc_key": "k",
        "cluster": "c",
        "part": "test",
        "split": "test",
    }


def test_a_start_chooses_the_nearest_of_equal_answers() -> None:
    rows, _ = read(gold(answer_start=40), gold(question="First?"))
    starts = {row["question"]: row["answers"][0]["start"] for row in rows}
    assert starts == {"When?": TEXT.rindex("valve opens"), "First?": TEXT.index("valve opens")}


def test_a_start_may_be_a_whole_number_in_any_spelling() -> None:
    rows, left_out = read(gold(answer_start=40.0), gold(question="Far?", answer_start=10**30))
    assert left_out == {}
    assert {row["answers"][0]["start"] for row in rows} == {TEXT.rindex("valve opens")}


def test_several_answers_are_all_kept_where_found() -> None:
    answers = [{"answer_text": "6 bar"}, {"answer_text": "not there"}, {"answer_text": "yearly"}]
    rows, left_out = read(gold(answers=answers))
    assert spans(rows[0]) == ["6 bar", "yearly"]
    assert left_out == {}


def test_chinese_answers_are_found() -> None:
    rows, _ = read(gold(doc="b.md", question="多久检修？", answer_text="每年检修"))
    assert rows[0]["answers"] == [{"start": 2, "end": 6}]
    assert rows[0]["part"] == "dev"


def test_an_equal_line_counts_once_and_ids_do_not_depend_on_order() -> None:
    other = gold(question="Other?")
    rows, _ = read(gold(), other, gold())
    swapped, _ = read(other, gold())
    assert [row["question_id"] for row in rows] == [row["question_id"] for row in swapped[::-1]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "malformed_line"),
        ("[1, 2]", "malformed_line"),
        ("7", "malformed_line"),
        ('{"question": "no document?"}', "malformed_line"),
        (json.dumps(gold(answers=["a text"])), "malformed_line"),
        (json.dumps(gold(answers=5)), "malformed_line"),
        (json.dumps(gold(answer_start="soon")), "malformed_line"),
        (json.dumps(gold(answer_start="12")), "malformed_line"),
        (json.dumps(gold(answer_start=True)), "malformed_line"),
        (json.dumps(gold(answer_start=1.5)), "malformed_line"),
        (json.dumps(gold(answer_start=float("inf"))), "malformed_line"),
        (json.dumps(gold(answer_start=float("-inf"))), "malformed_line"),
        (json.dumps(gold(answer_start=float("nan"))), "malformed_line"),
        (
            json.dumps(gold(answers=[{"answer_text": "6 bar", "answer_start": []}])),
            "malformed_line",
        ),
        (json.dumps(gold(question="Half \ud83d?")), "malformed_line"),
        (json.dumps(gold(doc="a\ud83d.md")), "malformed_line"),
        (json.dumps(gold(answer_text="6 \udc00 bar")), "malformed_line"),
        (json.dumps(gold(question=None)), "malformed_line"),
        (json.dumps(gold(answer_text=None)), "malformed_line"),
        ("null", "malformed_line"),
        ('"question doc"', "malformed_line"),
        ("[" * 100_000, "malformed_line"),
        ('{"question": "a", "doc": "a.md", "answer_start": ' + "9" * 5000 + "}", "malformed_line"),
        (json.dumps(gold(doc="gone.md")), "document_not_in_corpus"),
        (json.dumps(gold(answer_text="never said")), "answer_not_in_document"),
        (json.dumps(gold(answer_text="")), "answer_not_in_document"),
        (json.dumps(gold(question=" ")), "answer_not_in_document"),
    ],
)
def test_a_line_that_cannot_be_used_is_counted(line: str, reason: str) -> None:
    rows, left_out = read(line, gold())
    assert len(rows) == 1
    assert left_out == {reason: 1}


def test_empty_lines_and_an_empty_file_are_fine() -> None:
    assert read("", "  ", gold(), "\r")[1] == {}
    assert read("") == ([], {})


def test_a_line_separator_inside_a_question_breaks_no_line() -> None:
    rows, left_out = read(gold(question="When\u2028exactly\x85?"))
    assert left_out == {}
    assert rows[0]["question"] == "When\u2028exactly\x85?"


@pytest.mark.parametrize(
    ("answer", "start", "span"),
    [
        ("b  c", None, (2, 5)),
        ("b c", 8, (8, 11)),
        ("a.", None, None),
        ("  ", None, None),
    ],
)
def test_a_span_is_found_however_white_space_was_broken(
    answer: str, start: int | None, span: tuple[int, int] | None
) -> None:
    assert find_span("a b\nc a b c", answer, start) == span
