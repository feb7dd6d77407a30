"""Answers are served as they were measured: by the same way to ask, settings and models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from llama_index.core.llms import ChatMessage

from ragft_pipeline import schemas
from ragft_pipeline.answering.answerers import LocalAnswerer
from ragft_pipeline.answering.evaluation import BASE, TUNED
from ragft_pipeline.answering.measured import Measured
from ragft_pipeline.answering.prompts import passages_chat
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.language_model import load_language_model
from ragft_pipeline.serving.llamaindex_answering import answering_engine
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Link
from ragft_pipeline_tests.answering.fine_tuning_server import FineTuningServer, serving
from ragft_pipeline_tests.answering.tiny_model import make_tiny_model
from ragft_pipeline_tests.serving.conftest import QUESTION, Bundles

CHAT = passages_chat("the strainer", ["the pump is cleaned", "a valve opens the log"], "no answer")


def answering(**sections: Any) -> Settings:
    """Settings that are no defaults, so that whoever takes the defaults shows it."""
    body: dict[str, Any] = {
        "chats": {"decline": "Nobody knows.", "passages": 2, "sentences": 1},
        "llm_eval": {"max_new_tokens": 12},
        **sections,
    }
    return Settings.model_validate(body)


@dataclass
class Evaluated:
    """A store whose champion's version has a tuned_llm and an llm_eval without a verdict."""

    store: ArtifactStore

    def evaluate(self, settings: Settings, **facts: Any) -> None:
        where = settings.tuned_llm.where
        self._publish("tuned_llm", {"where": where, **facts}, {})
        tuned = self.store.read("pump", "tuned_llm")
        self._publish("llm_eval", {}, {"tuned_llm": tuned.action}, Measured.of(settings, tuned))

    def _publish(
        self,
        asset: str,
        facts: dict[str, Any],
        inputs: dict[str, str],
        measured: Measured | None = None,
    ) -> None:
        with self.store.staging(asset) as folder:
            if measured is not None:
                measured.save(folder)
                for table in (schemas.LLM_EVAL, schemas.LLM_LOSSES):
                    empty = pa.Table.from_pylist([], schema=table.schema)
                    pq.write_table(empty, folder / f"{table.name}.parquet")
            artifact = self.store.publish(
                asset, "1" * 64, folder, data_version="1", facts=facts, inputs=inputs
            )
        self.store.link(Link(asset, "pump", artifact.action, "1", "computed", 0.0))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def evaluated(promoted: Bundles) -> Iterator[Evaluated]:
    yield Evaluated(promoted[0])
    load_language_model.cache_clear()


def test_a_served_answer_is_the_measured_one(evaluated: Evaluated, tiny: Path) -> None:
    settings = answering(tuned_llm={"model": str(tiny), "where": "none"})
    evaluated.evaluate(settings)
    (measured,) = LocalAnswerer(settings).answer([CHAT])
    llm = answering_engine(evaluated.store.root, settings, BASE).llm
    messages = [ChatMessage(**message) for message in CHAT]
    assert len(measured.text.split()) > 3
    assert llm.chat(messages).message.content == measured.text
    assert [part.delta for part in llm.stream_chat(messages)] == [measured.text]


def test_what_the_store_says_decides_not_the_settings_of_the_day(
    evaluated: Evaluated, tiny: Path
) -> None:
    evaluated.evaluate(answering(tuned_llm={"model": str(tiny), "where": "none"}))
    engine = answering_engine(evaluated.store.root)
    assert engine.decline == "Nobody knows."
    assert engine.llm.metadata.model_name == str(tiny)
    answer = engine.query(QUESTION)
    assert len(answer.source_nodes) == 2
    assert len(str(answer).split()) <= 12
    with pytest.raises(RagftError, match="no model was tuned"):
        answering_engine(evaluated.store.root, model=TUNED)


def test_a_hosted_verdict_is_served_by_the_service(
    evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNING_KEY", FineTuningServer.key)
    with serving() as server:
        hosted = {"base_url": server.url, "model": "small-1", "api_key_env": "TUNING_KEY"}
        settings = answering(tuned_llm={"where": "hosted", "hosted": hosted})
        evaluated.evaluate(settings, hosted_model="ft:small-1:ftjob-1")
        assert str(answering_engine(evaluated.store.root).query(QUESTION)) == "It is warm."
        tuned = answering_engine(evaluated.store.root, model=TUNED).query(QUESTION)
        assert str(tuned).endswith('" [1]')


def test_another_model_than_the_measured_one_is_refused(
    evaluated: Evaluated, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path / "model")
    evaluated.evaluate(answering(tuned_llm={"model": str(folder), "where": "none"}))
    make_tiny_model(folder, seed=14)
    with pytest.raises(RagftError, match="is not what llm_eval measured any more"):
        answering_engine(evaluated.store.root)
