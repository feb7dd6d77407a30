"""The router's arithmetic: picks, kinds, confidence, and what it learns and keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.adapters import Adapter, linear_adapter
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.routing.catalog import KINDS
from ragft_pipeline.routing.index_kinds import KindClassifier, soft_labels
from ragft_pipeline.routing.router import Choice, Router, picks, searched_kinds, shares
from ragft_pipeline.routing.summary import binned_error, calibration_error, macro_f1
from ragft_pipeline.routing.tool_index import spread_out
from ragft_pipeline.settings import Settings

CHOICE = Choice(0.7, 0.05, 0.9, 3, 0.2)


def _router(folder_digest: str = "base") -> Router:
    weights = np.random.default_rng(1).normal(size=(3, 389)).astype(np.float32).T
    kinds = KindClassifier(weights, np.array([0.1, 0.2, 0.3], np.float32), 0.5)
    return Router(Adapter(folder_digest, linear_adapter(torch.eye(384))), kinds, CHOICE)


@given(
    st.lists(st.floats(0.001, 1.0), min_size=1, max_size=20),
    st.floats(0.1, 1.1),
    st.integers(1, 12),
)
def test_picks_are_the_fewest_that_reach_the_coverage(
    weights: list[float], coverage: float, most: int
) -> None:
    confidences = np.sort(np.array(weights))[::-1][None] / sum(weights)
    picked, abstained = picks(confidences, coverage, most)
    sums = np.cumsum(confidences[0])
    assert 1 <= picked[0] <= most
    if abstained[0]:
        reachable = min(most, len(weights))
        assert sums[reachable - 1] < coverage
    else:
        assert sums[picked[0] - 1] >= coverage - 1e-6
        assert picked[0] == 1 or sums[picked[0] - 2] < coverage


def test_scores_of_some_candidates_are_those_of_all() -> None:
    random = np.random.default_rng(0)
    dense, words = random.normal(size=(4, 50)), random.random((4, 50))
    router = _router()
    whole = router.scores(dense, words)
    best, _ = router.confidences(whole)
    kept = np.unique(np.concatenate([best[0, :10], words.argmax(axis=1)[:1]]))
    part = router.scores(dense[:1, kept], words[:1, kept])
    np.testing.assert_allclose(part[0], whole[0, kept])


def test_a_question_without_any_known_word_is_routed_by_its_vector() -> None:
    dense = np.array([[0.1, 0.9, 0.3]])
    best, confidences = _router().confidences(_router().scores(dense, np.zeros((1, 3))))
    assert best[0, 0] == 1
    assert confidences[0].sum() == pytest.approx(1.0)


def test_the_likeliest_kind_is_searched_whatever_the_floor() -> None:
    assert searched_kinds([0.2, 0.5, 0.3], 0.9) == ("summary",)
    assert searched_kinds([0.2, 0.5, 0.3], 0.3) == ("summary", "keyword")
    assert searched_kinds([0.2, 0.5, 0.3], 0.0) == KINDS


def test_saved_routers_load_and_refuse_another_base(tmp_path: Path) -> None:
    router = _router()
    router.save(tmp_path)
    loaded = Router.load(tmp_path, "base")
    assert loaded.choice == router.choice
    vectors = np.random.default_rng(0).normal(size=(2, 384)).astype(np.float32)
    np.testing.assert_allclose(
        loaded.kinds.shares(vectors, ["a", "b?"]), router.kinds.shares(vectors, ["a", "b?"])
    )
    with pytest.raises(RagftError, match="belongs to the base model"):
        Router.load(tmp_path, "other")
    with pytest.raises(RagftError, match="no router folder"):
        Router.load(tmp_path / "nothing", "base")


def test_kinds_are_learnt_from_what_they_gain_on_questions_of_a_form() -> None:
    settings = Settings()
    encoder = Encoder.base(settings.embedder, settings.compute)
    things = ["pump", "boiler", "night watch", "ferry", "canteen", "archive", "quay", "signal"]
    forms = ["what is {} about?", "K{n}-{n}7", "who looks after the {}"]
    gains = {0: [0.2, 1.0, 0.1], 1: [0.1, 0.0, 0.9], 2: [0.9, 0.1, 0.4]}
    asked = [f.format(thing, n=n) for n, thing in enumerate(things) for f in forms]
    wanted = np.array([gains[i % 3] for i in range(len(asked))])
    vectors = encoder.encode(asked, "query")
    learnt = KindClassifier.fit(vectors[:18], asked[:18], wanted[:18])
    likely = learnt.shares(vectors[18:], asked[18:])
    assert (likely.argmax(axis=1) == wanted[18:].argmax(axis=1)).mean() >= 0.8
    np.testing.assert_allclose(likely.sum(axis=1), 1.0, rtol=1e-6)


def test_kinds_that_gain_alike_teach_nothing() -> None:
    vectors = np.zeros((12, 4), np.float32)
    even = KindClassifier.fit(vectors, ["x"] * 12, np.ones((12, 3)))
    np.testing.assert_allclose(even.shares(vectors, ["x"] * 12), 1 / 3)
    np.testing.assert_allclose(soft_labels(np.ones((2, 3))), 1 / 3)


def test_calibration_error_is_small_for_honest_and_large_for_boastful_confidence() -> None:
    random = np.random.default_rng(0)
    honest = random.random(4000)
    right = (random.random(4000) < honest).astype(float)
    assert calibration_error(honest, right) < 0.03
    assert binned_error(honest, right) < 0.05
    for error in (calibration_error, binned_error):
        assert error(np.full(4000, 0.95), right) > 0.4
        assert error(np.zeros(0), np.zeros(0)) == 0.0


def test_with_few_questions_an_honest_confidence_is_told_from_a_boastful_one() -> None:
    random = np.random.default_rng(0)
    honest, boastful = [], []
    for _ in range(200):
        sure = random.random(160)
        right = (random.random(160) < sure).astype(float)
        honest.append(calibration_error(sure, right))
        boastful.append(calibration_error(np.minimum(1, sure + 0.2), right))
    assert np.median(honest) < 0.05
    assert np.median(boastful) > 0.12


def test_macro_f1_counts_each_kind_that_occurs_alike() -> None:
    assert macro_f1(np.diag([5, 1, 9])) == 1.0
    assert macro_f1(np.array([[10, 0, 0], [1, 0, 0], [0, 0, 0]])) == pytest.approx(20 / 21 / 2)


def test_shares_are_a_softmax() -> None:
    values = shares(np.array([[1.0, 0.5], [900.0, -900.0]]), 0.5)
    np.testing.assert_allclose(values[0], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])
    np.testing.assert_allclose(values[1], [1.0, 0.0])


def test_vectors_kept_lie_far_from_each_other() -> None:
    centres = np.eye(5, dtype=np.float32)
    vectors = np.repeat(centres, 4, axis=0)
    kept = spread_out(vectors, 5)
    assert sorted(place // 4 for place in kept) == [0, 1, 2, 3, 4]
    assert spread_out(vectors, 0) == list(range(20))
