"""The embedding of a bundle: it stays with that bundle, is copied and pickled."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from ragft_pipeline.serving.bundle import BundleStore
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.llamaindex import ChampionEmbedding, ChampionRetriever
from ragft_pipeline_tests.serving.conftest import (
    ADAPTED,
    PUMP,
    QUESTION,
    Bundles,
    make_bundle,
    noisy_adapter,
    serve,
)


def test_an_embedding_stays_with_its_bundle_and_says_which(
    promoted: Bundles, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store, pump, _ = promoted
    live = Champion(store)
    before = ChampionEmbedding(live)
    vector = before.get_query_embedding(QUESTION)
    models = noisy_adapter(tmp_path_factory.mktemp("adapter"))
    adapted = make_bundle(store, "pump", PUMP, ADAPTED, models)
    serve(store, adapted)
    after = ChampionEmbedding(live)
    assert (before.bundle, after.bundle) == (pump.digest, adapted.digest)
    assert before.get_query_embedding(QUESTION) == vector
    assert not np.allclose(after.get_query_embedding(QUESTION), vector, atol=0.01)
    opened = ChampionEmbedding(live, bundle=pump.digest)
    np.testing.assert_allclose(opened.get_query_embedding(QUESTION), vector, atol=1e-5)
    assert before.to_dict() != after.to_dict()  # by which LlamaIndex's cache tells them apart


def test_an_embedding_is_copied_and_pickled(promoted: Bundles) -> None:
    embedding = ChampionEmbedding(promoted[0].root)
    vector = embedding.get_query_embedding(QUESTION)
    for other in (copy.deepcopy(embedding), pickle.loads(pickle.dumps(embedding))):
        assert other.bundle == embedding.bundle
        np.testing.assert_allclose(other.get_query_embedding(QUESTION), vector, atol=1e-6)


def test_a_hiccup_of_the_history_leaves_the_searcher_answering(promoted: Bundles) -> None:
    store, _, bread = promoted
    live = Champion(store)
    retriever = ChampionRetriever(live, similarity_top_k=1)
    second = store.root / "champion" / "000002.json"
    second.write_text("{", encoding="utf-8")
    assert retriever.retrieve(QUESTION)[0].text == PUMP[0]
    assert "is damaged" in live.problem
    second.unlink()
    serve(store, bread)
    live._look_at = 0.0  # as after the patience
    assert retriever.retrieve(QUESTION)[0].metadata["title"] == "bread"
    assert live.problem == ""


def test_a_problem_is_told_without_credentials(
    promoted: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, bread = promoted
    live = Champion(store)
    refusal = OSError("no answer of https://user:hunter2@storage.example/bundles?sig=abcdef123456")

    def load(self: BundleStore, digest: str) -> None:
        raise refusal

    monkeypatch.setattr(BundleStore, "load", load)
    serve(store, bread)
    live.refresh()
    assert "https://storage.example/bundles" in live.problem
    assert "hunter2" not in live.problem
    assert "abcdef123456" not in live.problem
