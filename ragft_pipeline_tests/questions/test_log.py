"""Logs of questions without answers: read, redacted, kept apart from what is judged, taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragft_pipeline import recipes
from ragft_pipeline.cli import main
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.lineage.taint import question_keys, record_documents, tainted_models
from ragft_pipeline.questions.intake import intake, take_in, withdraw
from ragft_pipeline.questions.log import Log, question_id, read_log, redaction
from ragft_pipeline.questions.log_parts import GOLD, JUDGE, NEAR, TRAIN, log_parts
from ragft_pipeline.questions.votes import Vote, Votes, read_votes, urgency
from ragft_pipeline.settings import Settings, parse_settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.corpora import prose, write_corpus


def lines(path: Path, *rows: Any) -> Path:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def settings_of(tmp_path: Path, **log: Any) -> Settings:
    generators = json.dumps([{"kind": "extractive"}, {"kind": "log", **log}])
    return parse_settings(
        f"store: {tmp_path / 'store'}\ncorpus: {{source: {tmp_path / 'corpus'}}}\n"
        f"questions: {{generators: {generators}}}"
    )


def cut(question: str) -> str:
    return question.replace("Ada", "…")


def test_every_kind_of_file_is_read_and_equal_questions_are_counted_together(
    tmp_path: Path,
) -> None:
    lines(
        tmp_path / "a.jsonl",
        {"question": "When does it open?", "time": "2026-01-02"},
        {"Query": "when does it OPEN", "count": 3, "time": "2026-02-02"},
        "[]", "{", {"other": 1}, {"question": "x" * 3000}, {"question": "\ud800"},
    )  # fmt: skip
    (tmp_path / "b.csv").write_text("question,count\nWhen does it open?,2\n,1\n", encoding="utf-8")
    pq.write_table(pa.table({"query": ["Why?"], "else": [1]}), tmp_path / "c.parquet")
    log = Log()
    read_log(sorted(tmp_path.iterdir()), None, log)
    (one,) = [logged for logged in log.questions.values() if logged.count > 1]
    assert (one.question, one.count, one.last) == ("When does it open?", 6, "2026-02-02")
    assert {logged.question for logged in log.questions.values()} == {"When does it open?", "Why?"}
    assert log.left_out == [
        "a.jsonl line 3: is no JSON object",
        "a.jsonl line 4: is no JSON object",
        "a.jsonl line 5: has no question",
        "a.jsonl line 6: is longer than 2000 characters",
        "a.jsonl line 7: has no question",
        "b.csv line 3: has no question",
    ]


def test_a_hook_redacts_before_anything_is_stored_and_its_failure_shows_no_question(
    tmp_path: Path,
) -> None:
    file = lines(tmp_path / "a.jsonl", {"question": "Where is Ada's pump?"})
    log = Log()
    read_log([file], redaction(f"{__name__}:cut"), log)
    assert [one.question for one in log.questions.values()] == ["Where is …'s pump?"]
    with pytest.raises(RagftError, match="line 1: the redaction failed") as caught:
        read_log([file], lambda question: 1 / 0, Log())  # type: ignore[arg-type, return-value]
    assert "Ada" not in str(caught.value)
    for name in ("nothing", "no.such:thing", f"{__name__}:missing", f"{__name__}:GOLD"):
        with pytest.raises(RagftError, match="redact"):
            redaction(name)


def test_what_is_judged_never_trains_nor_does_what_is_nearly_the_same() -> None:
    texts = [f"how is part {n} of the {word} cleaned before winter comes" for n, word in
             enumerate(["pump", "valve", "boiler", "meter", "store", "pipe"] * 30)]  # fmt: skip
    questions = {question_id(text): text for text in texts}
    gold = ["How is the green manifold closed before the long winter night?"]
    same, near = gold[0].lower(), gold[0].replace("How", "How then")
    questions |= {question_id(one): one for one in (same, near)}
    parts = log_parts(questions, gold, keep=0.2, threshold=0.8)
    assert parts[question_id(same)] == parts[question_id(near)] == GOLD
    share = list(parts.values()).count(JUDGE) / len(parts)
    assert 0.1 < share < 0.3
    assert NEAR in parts.values()  # "part 1 of the valve …" beside "part 7 of the valve …"
    more = {**questions, question_id("And now?"): "And now?"}
    later = log_parts(more, gold, keep=0.2, threshold=0.8)
    kept = {name for name, part in parts.items() if part == JUDGE}
    assert kept == {name for name in questions if later[name] == JUDGE}  # for ever
    assert all(part != TRAIN for part in log_parts(questions, gold, 1.0, 0.8).values())


def test_a_log_is_taken_in_as_it_was_and_again_once_enough_is_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = lines(tmp_path / "a.jsonl", *({"question": f"Is {n} enough?"} for n in range(20)))
    settings = settings_of(tmp_path, path=str(file))
    store = ArtifactStore(settings.store)
    first = take_in(settings, print)
    said = capsys.readouterr().out
    assert "0 of 20 questions look as if they held an address" in said
    assert len(first.questions) == 20
    lines(file, *({"question": f"Is {n} enough?"} for n in range(21)))
    assert take_in(settings, new_share=0.1).digest == first.digest
    assert len(take_in(settings).questions) == len(intake(store).questions) == 21
    file.unlink()
    with pytest.raises(RagftError, match=r"a\.jsonl"):
        take_in(settings)
    assert len(intake(store).questions) == 21


def test_votes_are_a_log_and_a_vote_sent_again_is_one(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    store = ArtifactStore(settings.store)
    assert take_in(settings).questions == []
    votes = Votes(store, 10_000)
    for vote in (
        Vote("Where is it?", "n1", up=False, bundle="b", vote_id="1"),
        Vote("Where is it?", "n1", up=False, bundle="b", vote_id="1"),
        Vote("where is it", "n2", up=True, bundle="b"),
        Vote("When?", "n2", up=True, bundle="b"),
    ):
        votes.add(vote)
    assert len(read_votes(store)) == 3
    assert {row["question"] for row in take_in(settings).questions} == {"Where is it?", "When?"}
    wanted = urgency(read_votes(store))
    assert wanted == {question_id("Where is it?"): 3, question_id("When?"): 1}


def test_a_withdrawn_question_is_in_nothing_made_later_and_its_models_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = "Where does Ada Byron live?"
    file = lines(tmp_path / "a.jsonl", {"question": asked}, {"question": "Why so?"})
    settings = settings_of(tmp_path, path=str(file), keep=0.0)
    store = ArtifactStore(settings.store)
    take_in(settings)
    with store.staging("embedding_adapter") as staged:
        record_documents(staged / "model", questions=[question_id(asked)])
        store.publish("embedding_adapter", "k", staged, data_version="d", facts={}, inputs={})
    before = intake(store).digest
    (tmp_path / "ragft.yaml").write_text(f"store: {settings.store}\n")
    monkeypatch.setenv("RAGFT_SETTINGS", str(tmp_path / "ragft.yaml"))
    monkeypatch.setenv("RAGFT_STORE", settings.store)
    assert main(["taint", "--question", asked.upper()]) == 0
    assert "embedding_adapter" in capsys.readouterr().out
    assert main(["withdraw-question", asked]) == 0
    assert "it reached 1 models, 0 of them in service" in capsys.readouterr().out
    assert "Byron" not in (store.root / "questions" / "log.json").read_text(encoding="utf-8")
    assert intake(store).digest != before
    assert [row["question"] for row in take_in(settings).questions] == ["Why so?"]
    snapshots = SnapshotStore(store)
    assert tainted_models(snapshots, question_keys("Why so?")) == []
    withdraw(store, "Why so?")
    assert intake(store).questions == []


def test_a_log_makes_its_own_assets_stale_and_no_question_set(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus" / "docs", {f"{n}.md": prose(n) for n in range(6)})
    gold = {"question": "How is the pump cleaned here?", "doc": "0.md"}
    lines(tmp_path / "corpus" / "queries.jsonl", gold)
    file = lines(tmp_path / "a.jsonl", gold, {"question": "Why does it rattle at night?"})
    settings = settings_of(tmp_path, path=str(file), keep=0.0)
    store = ArtifactStore(settings.store)
    version = SnapshotStore(store).freeze(settings).version
    for recipe in (recipes.corpus_snapshot, recipes.gold_questions):
        materialize(recipe, settings, version)
    empty = materialize(recipes.log_questions, settings, version)
    take_in(settings)
    made = materialize(recipes.log_questions, settings, version)
    assert empty.artifact.table().num_rows == 0
    assert {row["question"]: row["part"] for row in made.artifact.table().to_pylist()} == {
        gold["question"]: GOLD, "Why does it rattle at night?": TRAIN,
    }  # fmt: skip
    without = parse_settings("questions: {generators: [{kind: extractive}]}")
    assert without.section_digest("questions") == settings.section_digest("questions")


@pytest.mark.slow
def test_a_log_trains_the_maps_and_leaves_its_mark_in_them(tmp_path: Path) -> None:
    subjects = ("pump", "valve", "boiler", "meter", "pipe", "store", "oven", "lamp", "door", "roof")
    documents = {
        f"{name}.md": f"# The {name}\n\nThe {name} is checked on day {n}. {prose(name)}"
        for n, name in enumerate(subjects)
    }
    write_corpus(tmp_path / "corpus" / "docs", documents)
    gold = {"question": "When is the pump checked?", "doc": "pump.md"}
    lines(tmp_path / "corpus" / "queries.jsonl", gold)
    asked = [{"question": f"which day do we look at the {name}?"} for name in subjects]
    file = lines(tmp_path / "a.jsonl", gold, *asked)
    settings = settings_of(tmp_path, path=str(file), keep=0.0)
    store = ArtifactStore(settings.store)
    version = SnapshotStore(store).freeze(settings).version
    take_in(settings)
    needed = recipes.RECIPES[: recipes.RECIPES.index(recipes.log_scores) + 1]
    made = {r.name: materialize(r, settings, version) for r in (*needed, recipes.embedding_adapter)}
    kept = made["log_questions"].artifact.table().to_pylist()
    training = {row["question_id"] for row in kept if row["part"] == TRAIN}
    scored = made["log_scores"].artifact.table().column("question_id").to_pylist()
    assert set(scored) == training
    assert question_id(gold["question"]) not in training
    adapter = made["embedding_adapter"].artifact
    assert adapter.facts["of_the_log"] == len(training) >= 8
    (model,) = tainted_models(SnapshotStore(store), question_keys(asked[1]["question"]))
    assert (model.asset, model.versions) == ("embedding_adapter", [version])
