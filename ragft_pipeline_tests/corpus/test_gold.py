from __future__ import annotations

import json
import unicodedata
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.corpus.document_names import DocumentNames
from ragft_pipeline.corpus.gold import left_out_lines, read_gold_questions
from ragft_pipeline.errors import RagftError

TEXT = "The valve opens at 6 bar.\nCheck it\nyearly. The valve opens at 6 bar again."
TEXTS = {"k": TEXT, "k2": "锅炉每年检修一次。", "k3": "Also at 6 bar."}


def document(path: str, key: str, split: str) -> dict[str, Any]:
    own = {"path": path, "doc_key": key, "cluster": f"c{key}", "split": split}
    return own | {"characters": len(TEXTS[key]), "file": path, "file_key": key, "start_char": 0}


DOCUMENTS = pa.Table.from_pylist(
    [
        document("a.md", "k", "test"),
        document("b.md", "k2", "val"),
        document("guides/Zubehör.md", "k3", "train"),
    ],
    schema=schemas.DOCUMENTS.schema,
)


def read(*lines: str | dict[str, Any]) -> tuple[list[dict[str, Any]], Counter[str]]:
    text = "\n".join(
        line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines
    )
    found = read_gold_questions(text, DOCUMENTS, TEXTS.__getitem__)
    assert found.table.schema == schemas.GOLD_QUESTIONS.schema
    return found.table.to_pylist(), Counter(one.reason for one in found.left_out)


def gold(**fields: Any) -> dict[str, Any]:
    return {"question": "When?", "doc": "a.md", "answer_text": "valve opens"} | fields


def spans(row: dict[str, Any]) -> list[str]:
    return [TEXT[answer["start"] : answer["end"]] for answer in row["answers"]]


def test_a_question_gets_its_document_split_and_span() -> None:
    rows, left_out = read(gold(answer_text="Check it yearly."))
    assert left_out == {}
    assert spans(rows[0]) == ["Check it\nyearly"]
    assert {name: rows[0][name] for name in ("doc_key", "cluster", "split")} == {
        "doc_key": "k",
        "cluster": "ck",
        "split": "test",
    }


def test_a_start_chooses_the_nearest_of_equal_answers() -> None:
    rows, _ = read(gold(answer_start=40), gold(question="First?"))
    starts = {row["question"]: row["answers"][0]["start"] for row in rows}
    assert starts == {"When?": TEXT.rindex("valve opens"), "First?": TEXT.index("valve opens")}
    counts = {row["question"]: len(row["answers"]) for row in rows}
    assert counts == {"When?": 1, "First?": 2}


def test_a_start_counts_from_the_beginning_of_the_file() -> None:
    """Front matter is no part of the text that it is looked for in."""
    rows = [row | {"front": 200} for row in DOCUMENTS.to_pylist()]
    documents = pa.Table.from_pylist(rows, schema=DOCUMENTS.schema)
    for place in (TEXT.index("valve opens"), TEXT.rindex("valve opens")):
        lines = json.dumps(gold(answer_start=200 + place))
        (row,) = read_gold_questions(lines, documents, TEXTS.__getitem__).table.to_pylist()
        assert row["answers"][0]["start"] == place


def test_a_start_may_be_a_whole_number_in_any_spelling() -> None:
    rows, left_out = read(gold(answer_start=40.0), gold(question="Far?", answer_start=10**30))
    assert left_out == {}
    assert {row["answers"][0]["start"] for row in rows} == {TEXT.rindex("valve opens")}


def test_several_answers_are_all_kept_where_found() -> None:
    answers = [{"answer_text": "6 bar"}, {"answer_text": "not there"}, {"answer_text": "yearly"}]
    rows, left_out = read(gold(answers=answers))
    assert spans(rows[0]) == ["6 bar", "yearly", "6 bar"]
    assert left_out == {}


def test_chinese_answers_are_found() -> None:
    rows, _ = read(gold(doc="b.md", question="多久检修？", answer_text="每年检修"))
    assert rows[0]["answers"] == [{"start": 2, "end": 6, "doc_key": "k2", "grade": 1}]
    assert rows[0]["split"] == "val"


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
        ('{"question": "no document?"}', "no_document"),
        (json.dumps(gold(answers=["a text"])), "answer_not_in_document"),
        (json.dumps(gold(answers=5)), "malformed_line"),
        (json.dumps(gold(answer_start="soon")), "malformed_line"),
        (json.dumps(gold(answer_start="1e2")), "malformed_line"),
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
        (json.dumps(gold(question=None)), "no_question"),
        (json.dumps(gold(answer_text=5)), "malformed_line"),
        ("null", "malformed_line"),
        ('"question doc"', "malformed_line"),
        ("[" * 100_000, "malformed_line"),
        ('{"question": "a", "doc": "a.md", "answer_start": ' + "9" * 5000 + "}", "malformed_line"),
        (json.dumps(gold(doc="gone.md")), "document_not_in_corpus"),
        (json.dumps(gold(answer_text="never said")), "answer_not_in_document"),
        (json.dumps(gold(answer_text="…")), "answer_not_in_document"),
        (json.dumps(gold(question=" ")), "no_question"),
        (json.dumps(gold(doc=["gone.md", 5])), "malformed_line"),
    ],
)
def test_a_line_that_cannot_be_used_is_counted(line: str, reason: str) -> None:
    rows, left_out = read(line, gold())
    assert len(rows) == 1
    assert left_out == {reason: 1}


def test_empty_lines_and_an_empty_file_are_fine() -> None:
    assert read("", "  ", gold(), "\r")[1] == {}
    assert read("") == ([], {})
    assert read("[]") == ([], {})


def test_a_line_separator_inside_a_question_breaks_no_line() -> None:
    rows, left_out = read(gold(question="When\u2028exactly\x85?"))
    assert left_out == {}
    assert rows[0]["question"] == "When\u2028exactly\x85?"


@pytest.mark.parametrize(
    "name",
    [
        "./guides/zubehör.md", "guides\\Zubehör.md", "docs/guides/Zubehör.md", "/Zubehör.md",
        "/srv/handbook/docs/guides/Zubehör.md", "Zubehör.md", "GUIDES/ZUBEHÖR.MD",
        unicodedata.normalize("NFD", "guides/Zubehör.md"), "guides/Zubeh%C3%B6r.md",
    ],
)  # fmt: skip
def test_a_document_is_found_however_its_path_was_written(name: str) -> None:
    rows, left_out = read(gold(doc=name, answer_text="6 bar"))
    assert left_out == {}
    assert rows[0]["doc_key"] == "k3"


def test_a_name_that_may_be_several_documents_is_named() -> None:
    names = DocumentNames(["a/setup.md", "b/setup.md", "b/c/setup.md", "c/setup.md"])
    assert names.find("setup.md") == ["a/setup.md", "b/setup.md", "b/c/setup.md", "c/setup.md"]
    assert names.find("c/setup.md") == ["c/setup.md"]
    assert names.find("b/c/setup.md") == ["b/c/setup.md"]
    assert names.find("up.md") == []


@pytest.mark.parametrize(
    "entry",
    [
        {"query": "When?", "document": "a.md", "answer": "6 bar"},
        {"Question": "When?", "Docs": ["a.md"], "Answer Text": "6 bar"},
        {"text": "When?", "path": "a.md", "answers": ["6 bar"]},
        {"question": "When?", "doc": "a.md", "answers": {"text": ["6 bar"], "answer_start": [15]}},
        {"question": "When?", "doc": "a.md", "answers": [{"text": "6 bar"}], "id": 7},
        {"question": "When?", "answers": [{"doc": "a.md", "answer_text": "6 bar"}]},
    ],
)
def test_other_names_of_the_keys_are_read(entry: dict[str, Any]) -> None:
    rows, left_out = read(entry)
    assert left_out == {}
    assert set(spans(rows[0])) == {"6 bar"}


def test_a_question_is_answered_by_all_documents_that_lines_or_lists_name() -> None:
    listed, _ = read(gold(doc=["a.md", "guides/Zubehör.md"], answer_text="6 bar"))
    two_lines, _ = read(
        gold(answer_text="6 bar"),
        gold(answer_text="yearly"),
        gold(doc="guides/Zubehör.md", answer_text="6 bar"),
    )
    assert len(listed) == len(two_lines) == 1
    assert {answer["doc_key"] for answer in listed[0]["answers"]} == {"k", "k3"}
    assert len(listed[0]["answers"]) == 3
    assert len(two_lines[0]["answers"]) == 4
    assert listed[0]["question_id"] == two_lines[0]["question_id"]


def test_a_question_is_held_out_where_all_of_its_documents_are() -> None:
    rows, _ = read(gold(doc=["guides/Zubehör.md", "a.md"], answer_text="6 bar"))
    assert {name: rows[0][name] for name in ("doc_key", "cluster", "split")} == {
        "doc_key": "k3", "cluster": "ck3", "split": "train",
    }  # fmt: skip


@pytest.mark.parametrize("answer", [{}, {"answer_text": None}, {"answer_text": " "}])
def test_a_question_without_an_answer_is_about_the_whole_document(answer: dict[str, Any]) -> None:
    rows, left_out = read({"question": "What of it?", "doc": "a.md"} | answer)
    assert left_out == {}
    assert (rows[0]["answers"], rows[0]["whole"]) == ([], ["k"])


def test_an_answer_in_a_document_that_is_cut_is_found_in_its_parts() -> None:
    half = TEXT.index("Check")
    rows = [
        {"path": f"a.md § {n}", "doc_key": f"p{n}", "cluster": f"c{n}", "split": split,
         "characters": end - start, "file": "a.md", "file_key": "k", "start_char": start}
        for n, split, start, end in [(1, "train", 0, half - 1), (2, "test", half, len(TEXT))]
    ]  # fmt: skip
    documents = pa.Table.from_pylist(rows, schema=schemas.DOCUMENTS.schema)
    lines = "\n".join(
        map(json.dumps, [gold(), gold(question="One?", answer_start=2), gold(question="All?") | {
            "answer_text": None}, gold(question="Over?", answer_text="6 bar. Check it")])
    )  # fmt: skip
    found = {
        row["question"]: row
        for row in read_gold_questions(lines, documents, TEXTS.__getitem__).table.to_pylist()
    }
    own = {"p1": TEXT[: half - 1], "p2": TEXT[half:]}
    places = {
        question: [(a["doc_key"], own[a["doc_key"]][a["start"] : a["end"]]) for a in row["answers"]]
        for question, row in found.items()
    }
    assert places["When?"] == [("p1", "valve opens"), ("p2", "valve opens")]
    assert places["One?"] == [("p1", "valve opens")]
    assert places["Over?"] == [("p1", "6 bar."), ("p2", "Check it")]
    assert found["All?"]["whole"] == ["p1", "p2"]
    splits = {question: row["split"] for question, row in found.items()}
    assert splits == dict.fromkeys(found, "train")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([gold(), gold(question="Other?")]),
        json.dumps([gold(), gold(question="Other?")], indent=1),
        json.dumps({"version": 1, "questions": [gold(), gold(question="Other?")]}, indent=1),
        'question,doc,answer_text\nWhen?,a.md,valve opens\nOther?,a.md,"6 bar"\n',
        "Query\tDocument\tAnswer\nWhen?\ta.md\tvalve opens\nOther?\ta.md\t6 bar\n",
        "question;doc;answer_start;answer_text\r\nWhen?;a.md;5;valve\r\nOther?;a.md;;6 bar\r\n",
    ],
)
def test_arrays_and_tables_are_read(text: str) -> None:
    rows, left_out = read(text)
    assert left_out == {}
    assert {row["question"] for row in rows} == {"When?", "Other?"}


@pytest.mark.parametrize(
    "text",
    [
        '{"_id": "1", "text": "When?"}\n{"_id": "2", "text": "Where?"}\n',
        '{"query": "When?", "pos": ["At 6 bar."], "neg": []}',
        json.dumps({"data": [{"title": "a", "paragraphs": []}]}),
        "When?\ta.md\n",
        "# Questions\n\n1. When?\n",
        '[{"question": "When?", "doc": "a.md"',
    ],
)
def test_a_file_of_another_kind_is_an_error_that_says_what_is_expected(text: str) -> None:
    with pytest.raises(
        RagftError, match=r"0 of \d entries are questions .*question, doc and answer"
    ):
        read(text)


def test_a_finetune_dataset_is_sent_to_the_generators() -> None:
    dataset = {"queries": {"q": "When?"}, "corpus": {"c": "x"}, "relevant_docs": {"q": ["c"]}}
    with pytest.raises(RagftError, match=r"name it in questions.generators"):
        read(json.dumps(dataset, indent=1))
    with pytest.raises(RagftError, match=r"name it in questions.generators"):
        read(json.dumps(dataset))


def test_what_is_left_out_is_named_by_line_and_reason_up_to_a_limit() -> None:
    lines = [gold(), "{broken", "", *(gold(question=f"Q{n}?", doc=f"no{n}.md") for n in range(30))]
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    found = read_gold_questions(text, DOCUMENTS, TEXTS.__getitem__)
    shown = left_out_lines([vars(one) for one in found.left_out], found.entries)
    assert shown[:3] == [
        "31 of 32 entries of the gold questions are left out:",
        "  line 2: is not JSON",
        "  line 4: no0.md is not in the corpus",
    ]
    assert shown[-1] == "  and 11 more"
    assert len(shown) == 22


def test_answers_have_grades_and_what_does_not_answer_is_kept_as_judged() -> None:
    first = gold(
        id="mine",
        answers=[
            {"text": "6 bar", "grade": 3},
            {"text": "yearly", "grade": 0},
            {"doc": "b.md", "grade": 2},
        ],
    )
    again = gold(answers=[{"text": "6 bar", "grade": 1}], id="other")
    rows, left_out = read(first, again)
    assert left_out == {}
    (row,) = rows
    assert {answer["grade"] for answer in row["answers"]} == {3}
    assert (row["whole"], row["whole_grades"], row["asked_as"]) == (["k2"], [2], "mine")
    (rejected,) = row["rejected"]
    assert TEXT[rejected["start"] : rejected["end"]] == "yearly"


def test_a_question_of_which_nothing_answers_is_left_out_by_name() -> None:
    rows, left_out = read(gold(), gold(question="No?", answers=[{"text": "6 bar", "grade": 0}]))
    assert len(rows) == 1
    assert left_out == {"nothing_answers": 1}
    _, left_out = read(gold(), gold(answers=[{"text": "6 bar", "grade": "good"}]))
    assert left_out == {"malformed_line": 1}
