"""Other tools' shapes: files as those tools write them, bad lines named, round trips."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.cli import main
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.exchange import labelled_pairs
from ragft_pipeline.questions.formats import (
    FORMATS,
    Answered,
    LabelledSet,
    Text,
    read_labelled,
    write_labelled,
)
from ragft_pipeline.questions.importing import place_in_documents, write_corpus
from ragft_pipeline.settings import CorpusSettings, Settings
from ragft_pipeline.store import ArtifactStore

TEXTS = {
    "valve/1": Text("The valve opens at 6 bar.\nIt closes at 4.", "Valve"),
    "d 2": Text("阀门在六巴时打开。", "阀门"),
    "d3": Text("Nobody asks about \u2028 this."),
}
ENDING = {"beir": "", "triples": ".tsv", "squad": ".json", "embedding-qa": ".json"}


def small_set() -> LabelledSet:
    found = LabelledSet({"q1": "When does it open?", "q2": "多少巴？"}, dict(TEXTS))
    for name, text, grade in (
        ("q1", "valve/1", 2), ("q1", "d 2", 1), ("q1", "d3", 0), ("q2", "d 2", 1),
    ):  # fmt: skip
        found.judge(name, text, grade)
    found.answers = {"q1": [Answered("valve/1", "6 bar", 19)], "q2": [Answered("d 2", "六巴", 3)]}
    return found


def lines(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text(text + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_written_is_read_again_under_the_same_ids(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"set{ENDING.get(name, '.jsonl')}"
    write_labelled(small_set(), path, name)
    again = read_labelled(path)
    assert again.left_out == []
    if name == "triples":  # it has neither ids nor grades
        assert sorted(again.questions.values()) == sorted(small_set().questions.values())
        (question,) = [n for n, text in again.questions.items() if text == "When does it open?"]
        assert len(again.positives(question)) == 2
        assert len(again.negatives(question)) == 1
        return
    assert again.questions == small_set().questions
    if name in ("beir", "pairs"):
        assert again.grades == small_set().grades
    if name == "beir":
        assert again.texts == TEXTS
    if name == "squad":
        assert again.answers == small_set().answers
    else:
        assert {n: sorted(again.positives(n)) for n in again.questions} == {
            "q1": ["d 2", "valve/1"], "q2": ["d 2"],
        }  # fmt: skip


def test_a_folder_as_beir_has_it_is_read_with_grades_and_bad_lines_are_named(
    tmp_path: Path,
) -> None:
    lines(
        tmp_path / "corpus.jsonl",
        {"_id": "a", "title": "T", "text": "One."}, {"_id": "b", "text": "Two.", "metadata": {}},
        "{broken", {"title": "no id"}, {"_id": "a", "text": "again"}, {"_id": 7, "text": "Seven."},
    )  # fmt: skip
    lines(
        tmp_path / "queries.jsonl", {"_id": "1", "text": "Which?"}, {"_id": "2", "text": "None?"},
        {"_id": "3", "text": " "},
    )  # fmt: skip
    lines(
        tmp_path / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore", "1\ta\t2", "1\tb\t0",
        "1\tzz\t1", "9\ta\t1", "1 a", "1\ta\tmuch",
    )  # fmt: skip
    lines(tmp_path / "qrels" / "dev.tsv", "1 0 7 1")  # as ir-datasets writes TREC's qrels
    found = read_labelled(tmp_path)
    assert found.grades == {"1": {"a": 2, "b": 0, "7": 1}}
    assert (found.positives("1"), found.negatives("1")) == (["a", "7"], ["b"])
    assert found.texts["a"] == Text("One.", "T")
    assert found.left_out == [
        "corpus.jsonl line 3: is not JSON",
        "corpus.jsonl line 4: has no _id",
        "corpus.jsonl line 5: the _id a stands above",
        "queries.jsonl line 3: has no text",
        "qrels/test.tsv line 4: zz is no document of corpus.jsonl",
        "qrels/test.tsv line 5: 9 is no question of queries.jsonl",
        "qrels/test.tsv line 6: is not query-id, corpus-id, score",
        "qrels/test.tsv line 7: the score 'much' is no number",
        "2: has no relevant text",
    ]
    assert read_labelled(tmp_path / "qrels" / "dev.tsv").grades == {"1": {"7": 1}}


def test_bad_lines_of_each_format_are_named_by_number_and_reason(tmp_path: Path) -> None:
    pairs = lines(
        tmp_path / "p.jsonl", {"query": "Why?", "pos": ["x"], "neg": ["y"], "prompt": "p"},
        "[]", {"query": "Why?"}, {"query": "", "pos": ["x"]}, {"query": "Why?", "pos": []}, "{",
    )  # fmt: skip
    assert read_labelled(pairs).left_out == [
        "p.jsonl line 2: is not an object",
        "p.jsonl line 3: pos and neg are lists of texts",
        "p.jsonl line 4: has no query",
        "p.jsonl line 5: has no relevant text",
        "p.jsonl line 6: is not JSON",
    ]
    triples = lines(tmp_path / "t.tsv", "Why?\tBecause.\tNo.", "Alone", "Why?\tOh.\tNo.\tMore.")
    found = read_labelled(triples)
    assert len(found.questions) == 1
    assert [line.split(":")[0] for line in found.left_out] == ["t.tsv line 2", "t.tsv line 3"]
    squad = tmp_path / "s.json"
    asked = [
        {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]},
        {"id": "2", "question": "", "answers": []},
        {"id": "3", "question": "When?", "answers": [], "is_impossible": True},
        {"id": "1", "question": "Who else?", "answers": [{"text": "Ada", "answer_start": 0}]},
        {"id": "4", "question": "Where?", "answers": [{"text": 5}]},
    ]
    article = {"title": "A", "paragraphs": [{"context": "Ada wrote it.", "qas": asked}, {}]}
    squad.write_text(json.dumps({"version": "1.1", "data": [article, 5]}), encoding="utf-8")
    found = read_labelled(squad)
    assert found.answers == {"1": [Answered("A-0", "Ada", 0)]}
    assert found.left_out == [
        "article 1, paragraph 1, question 2: has no question",
        "article 1, paragraph 1, question 4: the id 1 stands above",
        "article 1, paragraph 1, question 5: its answers are no texts",
        "article 1, paragraph 2: has no qas",
        "article 2: has no paragraphs",
        "3: has no relevant text",
    ]


def test_ragas_test_sets_are_read_from_each_file_that_ragas_writes(tmp_path: Path) -> None:
    row = {
        "user_input": "Who?", "reference_contexts": ["It's Ada's.", 'A "text".'],
        "reference": "Ada", "synthesizer_name": "single_hop",
    }  # fmt: skip
    lines(tmp_path / "set.jsonl", row, {**row, "user_input": [{"content": "hi"}]})
    (tmp_path / "set.json").write_text(json.dumps([row]), encoding="utf-8")
    with (tmp_path / "set.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow({**row, "reference_contexts": str(row["reference_contexts"])})
        writer.writerow({**row, "reference_contexts": "[__import__('os')]"})
    pa.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "set.parquet")
    for kind in ("jsonl", "json", "csv", "parquet"):
        found = read_labelled(tmp_path / f"set.{kind}")
        (name,) = found.questions
        assert [found.texts[one].text for one in found.positives(name)] == row["reference_contexts"]
        assert found.references == {name: "Ada"}
        assert len(found.left_out) == (1 if kind in ("jsonl", "csv") else 0)


@pytest.mark.parametrize("content", ["", "just words", '{"a": 1}', "[]"])
def test_a_file_of_no_known_format_is_one_line(content: str, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(RagftError, match=r"x\.jsonl"):
        read_labelled(file)
    with pytest.raises(RagftError, match="is not there"):
        read_labelled(tmp_path / "none")


def test_hard_negatives_are_the_teachers_but_not_what_may_answer_as_well() -> None:
    nodes = pa.table({"node_id": ["a", "b", "c", "d"], "text": ["A", "B", "C", "D"]})
    pairs = pa.table({"question_id": ["q"], "question": ["Why?"], "node_id": ["a"]})
    teacher = pa.Table.from_pylist(
        [{"question_id": "q", "node_ids": ["b", "a", "c", "d"], "scores": [0.95, 0.9, 0.5, 0.1]}],
        schema=schemas.TEACHER_SCORES.schema,
    )
    found = labelled_pairs(pairs, nodes, teacher, negatives=1)
    assert (found.positives("q"), found.negatives("q")) == (["a"], ["c"])
    assert set(found.texts) == {"a", "c"}


def test_a_corpus_made_of_a_beir_folder_comes_out_as_it_went_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = small_set()
    before.judge("q2", "d3", 3)
    write_labelled(before, tmp_path / "beir", "beir")
    (tmp_path / "ragft.yaml").write_text(f"corpus: {{source: {tmp_path / 'corpus'}}}\n")
    monkeypatch.setenv("RAGFT_SETTINGS", str(tmp_path / "ragft.yaml"))
    monkeypatch.setenv("RAGFT_STORE", str(tmp_path / "store"))
    assert main(["import-qa", str(tmp_path / "beir"), "--to", str(tmp_path / "corpus")]) == 0
    assert "3 documents, 2 questions" in capsys.readouterr().out
    settings = Settings(corpus=CorpusSettings(source=str(tmp_path / "corpus")))
    version = SnapshotStore(ArtifactStore(tmp_path / "store")).freeze(settings)
    assert (version.facts["documents"], version.facts["gold_questions"]) == (3, 2)
    assert main(["export-qa", "gold", str(tmp_path / "again"), "--format", "beir"]) == 0
    again = read_labelled(tmp_path / "again")
    assert (again.questions, again.grades) == (before.questions, before.grades)
    assert {name: text.title for name, text in again.texts.items()}["valve/1"] == "Valve"
    assert again.texts["d 2"] == TEXTS["d 2"]
    assert main(["import-qa", str(tmp_path / "beir"), "--to", str(tmp_path / "corpus")]) == 1


def test_words_that_answer_keep_their_place_in_a_corpus_made_of_squad(tmp_path: Path) -> None:
    write_labelled(small_set(), tmp_path / "set.json", "squad")
    write_corpus(read_labelled(tmp_path / "set.json"), tmp_path / "corpus")
    rows = [json.loads(line) for line in (tmp_path / "corpus/queries.jsonl").open(encoding="utf-8")]
    for row in rows:
        (answer,) = row["answers"]
        text = (tmp_path / "corpus" / "docs" / answer["doc"]).read_text(encoding="utf-8")
        assert text[answer["answer_start"] :].startswith(answer["text"])


def test_a_test_set_about_ones_own_documents_becomes_questions_about_them() -> None:
    found = LabelledSet({"q": "When?", "r": "Lost?"}, {"t": Text("opens\nat 6"), "u": Text("gone")})
    found.judge("q", "t", 1)
    found.judge("r", "u", 1)
    placed = place_in_documents(found, {"a.md": "It opens at  6 bar.", "b.md": "Else."})
    assert placed.entries == [
        {
            "id": "q", "question": "When?", "doc": ["a.md"],
            "answers": [{"doc": "a.md", "text": "opens\nat 6", "grade": 1}],
        }
    ]  # fmt: skip
    assert placed.left_out == ["r: none of its texts stands in a document"]
