"""A second stage reorders what it was asked about, and says nothing of the rest."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.retrieval import late_interaction
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.evidence import FIRST_STAGE, LATE_INTERACTION
from ragft_pipeline.retrieval.ranker import Ranker
from ragft_pipeline.serving.bundle import Bundle
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import ComputeSettings, Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.serving.conftest import BREAD, PUMP, make_bundle

READ = ("embedder", "passages", "reranker", "late_interaction")

QUESTION = "when is the strainer of the pump cleaned?"


def test_a_search_does_not_set_the_threads_of_what_is_born_meanwhile(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    found: dict[str, int] = {}

    def look(name: str) -> None:
        found[name] = torch.get_num_threads()

    class Watched(Encoder):
        def encode(self, *args: Any, **kwargs: Any) -> np.ndarray:
            look("searching")
            born = Thread(target=look, args=("born meanwhile",))
            born.start()
            born.join()
            return super().encode(*args, **kwargs)

    try:
        bundle = make_bundle(ArtifactStore(tmp_path), "pump", PUMP)
        searcher = Searcher(bundle, ComputeSettings(threads=2))
        searcher.models.encoder.__class__ = Watched
        searcher.search(QUESTION)
        look("afterwards")
    finally:
        torch.set_num_threads(before)
    assert found == {"searching": 1, "born meanwhile": 2, "afterwards": 2}


def test_a_ranker_orders_as_its_evidence_adds_up(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    (tmp_path / "late").mkdir()
    ranker = Ranker.prior((*FIRST_STAGE, LATE_INTERACTION)).weights
    configuration = Configuration("base", 0.5, "ranker", ranker)
    models = Models(late_interaction=tmp_path / "late")
    searcher = Searcher(make_bundle(store, "both", (*PUMP, *BREAD), configuration, models))
    hits = searcher.search(QUESTION, 12)
    assert hits[0].text == PUMP[0]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        assert hit.parts.keys() == {name for name, weight in ranker.items() if weight}
        assert sum(hit.parts.values()) == pytest.approx(hit.score, abs=1e-5)
    again = searcher.second_scores(QUESTION, [BREAD[0], PUMP[0], "a passage of no document"])
    assert again is not None
    assert again.argmax() == 1


def test_a_ranker_reads_what_the_bundle_stored_of_passages_below_their_headings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encoded_anew(*given: object) -> None:
        raise AssertionError("the passage is not among the stored ones")

    (tmp_path / "late").mkdir()
    ranker = Ranker.prior((*FIRST_STAGE, LATE_INTERACTION)).weights
    configuration = Configuration("base", 0.5, "ranker", ranker)
    models = Models(late_interaction=tmp_path / "late")
    settings = Settings.model_validate({"passages": {"context": "on"}})
    bundle = make_bundle(ArtifactStore(tmp_path), "both", PUMP, configuration, models, settings)
    monkeypatch.setattr(late_interaction, "store_tokens", encoded_anew)
    searcher = Searcher(bundle)
    assert searcher.search(QUESTION)[0].text == PUMP[0]
    scores = searcher.second_scores(QUESTION, PUMP)  # as LlamaIndex shows them
    assert scores is not None
    assert scores.argmax() == 0


def test_a_bundle_of_a_release_with_other_settings_is_read() -> None:
    made = {name: section.model_dump() for name, section in Settings() if name in READ}
    made["late_interaction"] |= {"recipe": "map", "depth": 7}  # which is gone, and which is not
    bundle = Bundle(Path(), {"settings": {**made, "dtype": "float32"}})
    assert bundle.settings(ComputeSettings()).late_interaction.depth == 7
