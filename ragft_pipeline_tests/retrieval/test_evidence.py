"""Evidence of candidates, and the ranker over it."""

from __future__ import annotations

import numpy as np
import pytest

from ragft_pipeline.retrieval.evidence import FIRST_STAGE, Evidence
from ragft_pipeline.retrieval.ranker import PRIOR, Ranker
from ragft_pipeline_tests.corpora import nodes_table

TEXTS = ["The valve is red.", "Close the main valve before the pump.", "The pump is old.", "Snow."]
NODES = nodes_table(
    TEXTS, title=["Valves"] * 2 + ["Pumps"] * 2, doc_key=["first"] * 2 + ["second"] * 2
)
DENSE = np.array([[0.1, 0.4, 0.3, 0.0]], np.float32)
QUESTION = ["main valve"]
CLUSTERS = [f"c{n}" for n in range(200)]


def _features(evidence: Evidence, nodes: np.ndarray | None = None) -> dict[int, dict[str, float]]:
    dense = DENSE if nodes is None else np.take_along_axis(DENSE, nodes, axis=1)
    words = evidence.lexical.scores(QUESTION)
    words = words if nodes is None else np.take_along_axis(words, nodes, axis=1)
    found = evidence.candidates(QUESTION, dense, words, dense, nodes)
    return {
        node: dict(zip(found.names, row))
        for node, row in zip(found.nodes[0].tolist(), found.features[0].tolist())
    }


def test_evidence_is_of_the_passage_and_of_what_surrounds_it() -> None:
    found = _features(Evidence.of(NODES, context=True, language="auto"))
    assert found[1]["coverage"] == pytest.approx(1)
    assert found[1]["bigrams"] == 1
    assert 0 < found[0]["coverage"] < 1
    assert found[0]["neighbours"] == found[0]["document"] == pytest.approx(1)  # passage 1 is beside
    assert found[3]["neighbours"] > 0 > found[3]["length"]
    assert found[0]["title"] == found[1]["title"] == 1


def test_candidates_of_an_approximate_index_have_the_same_evidence() -> None:
    evidence = Evidence.of(NODES, context=False, language="auto")
    whole, listed = _features(evidence), _features(evidence, np.array([[0, 1, 2, 3]]))
    assert whole.keys() == listed.keys()
    for node, row in whole.items():
        assert listed[node] == pytest.approx(row)


def test_context_is_read_and_not_shown() -> None:
    evidence = Evidence.of(NODES, context=True, language="auto")
    assert evidence.texts == TEXTS
    assert evidence.read[1] == "Valves\nClose the main valve before the pump."


def _learnable(questions: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    features = random.random((questions, 20, len(FIRST_STAGE))).astype(np.float32)
    right = features[:, :, FIRST_STAGE.index("title")].argmax(axis=1)
    return features, np.arange(20) == right[:, None]


def test_questions_move_a_ranker_from_its_prior() -> None:
    features, relevant = _learnable(200)
    few = Ranker.fitted(FIRST_STAGE, features[:1], relevant[:1], ["c"]).weights["title"]
    many = Ranker.fitted(FIRST_STAGE, features, relevant, CLUSTERS).weights["title"]
    assert PRIOR["title"] < few < many
    none = Ranker.fitted(FIRST_STAGE, features, np.zeros_like(relevant), CLUSTERS)
    assert none == Ranker.prior(FIRST_STAGE)
