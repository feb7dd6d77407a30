"""A second stage reorders what it was asked about, and says nothing of the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ragft_pipeline.evaluation.trial import Models
from ragft_pipeline.retrieval.reranking import blend
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.serving.conftest import BREAD, PUMP, UNTUNED, make_bundle

QUESTION = "when is the strainer of the pump cleaned?"


def test_late_interaction_reorders_the_first_candidates(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    texts = [f"{text} Note {number}." for number in range(5) for text in (*PUMP, *BREAD)]
    (tmp_path / "late").mkdir()  # without a tuning it is zero-shot
    staged = Configuration("base", 0.5, "late interaction", 0.4)
    models = Models(late_interaction=tmp_path / "late")
    plain = Searcher(make_bundle(store, "both", texts, UNTUNED)).search(QUESTION, 60)
    hits = Searcher(make_bundle(store, "both", texts, staged, models)).search(QUESTION, 60)

    asked, rest = hits[:50], hits[50:]
    assert all("late interaction" in hit.parts for hit in asked)
    assert not any("late interaction" in hit.parts for hit in rest)
    assert [hit.node_id for hit in rest] == [hit.node_id for hit in plain[50:]]
    by_node = {hit.node_id: hit for hit in asked}
    first = np.array([[hit.score for hit in plain[:50]]])
    second = np.array([[by_node[hit.node_id].parts["late interaction"] for hit in plain[:50]]])
    order = np.argsort(-blend(first, second, 0.4)[0], kind="stable")
    assert [hit.node_id for hit in asked] == [plain[i].node_id for i in order]
