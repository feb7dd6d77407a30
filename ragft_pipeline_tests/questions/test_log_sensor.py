"""The daemon takes logs in once enough is new, and freezes nothing while people judge."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from ragft_pipeline import Corpus
from ragft_pipeline.labelling.hold import open_hold
from ragft_pipeline.questions.intake import intake
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.corpora import prose, write_corpus


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    write_corpus(tmp_path / "corpus", {"a.md": prose(1)})
    ask(tmp_path, 10)
    log = {"kind": "log", "path": str(tmp_path / "log.jsonl")}
    (tmp_path / "ragft.yaml").write_text(
        f"store: {tmp_path / 'store'}\ncorpus: {{source: {tmp_path / 'corpus'}}}\n"
        f"automation: {{debounce_seconds: 0}}\nquestions: {{generators: [{json.dumps(log)}]}}\n"
    )
    return ArtifactStore(str(tmp_path / "store"))


def sensor(folder: Path, name: str) -> dg.SensorDefinition:
    defs = Corpus(settings_file=str(folder / "ragft.yaml")).definitions()
    return defs.resolve_sensor_def(f"corpus_{name}")


def ask(folder: Path, number: int) -> None:
    rows = (json.dumps({"question": f"is {n} enough?"}) for n in range(number))
    (folder / "log.jsonl").write_text("\n".join(rows), encoding="utf-8")


def test_a_log_is_taken_in_once_enough_of_it_is_new(store: ArtifactStore, tmp_path: Path) -> None:
    new_questions = sensor(tmp_path, "new_questions")
    cursor = ""
    for number, taken in ((10, 10), (11, 11), (11, 11), (12, 11), (13, 13)):
        ask(tmp_path, number)
        context = dg.build_sensor_context(cursor=cursor)
        assert isinstance(new_questions(context), dg.SkipReason)
        assert len(intake(store).questions) == taken
        cursor = context.cursor or ""
    (tmp_path / "log.jsonl").unlink()
    said = new_questions(dg.build_sensor_context(cursor=cursor))
    assert "log.jsonl" in str(said.skip_message)  # type: ignore[union-attr]
    assert len(intake(store).questions) == 13


def test_no_version_is_frozen_while_people_judge(store: ArtifactStore, tmp_path: Path) -> None:
    new_documents = sensor(tmp_path, "new_documents")
    with open_hold(store):
        waits = new_documents(dg.build_sensor_context())
        assert isinstance(waits, dg.SkipReason)
        assert "people are judging" in str(waits.skip_message)
    assert isinstance(new_documents(dg.build_sensor_context()), dg.SensorResult)
