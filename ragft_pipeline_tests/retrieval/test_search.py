from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ragft_pipeline.retrieval.search import best_mixtures, fuse, min_max, mix, top_k

FEW_VALUES = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0]),
)


@given(FEW_VALUES, st.integers(0, 15))
def test_ties_keep_the_order_of_columns(scores: np.ndarray, k: int) -> None:
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(top_k(scores, k), expected)


@pytest.mark.parametrize("k", [1, 10, 100, 999])
def test_ties_at_the_edge_of_a_long_row_keep_the_order_of_columns(k: int) -> None:
    draw = np.random.default_rng(k)
    scores = draw.integers(0, 4, (20, 1000)).astype(np.float32)
    scores[0] = 0
    np.testing.assert_array_equal(top_k(scores, k), np.argsort(-scores, kind="stable")[:, :k])


def test_infinite_scores_are_ranked() -> None:
    scores = np.array([[-np.inf, 1.0, np.inf, -np.inf]])
    assert top_k(scores, 3).tolist() == [[2, 1, 0]]


def test_scores_that_are_no_numbers_come_last() -> None:
    assert top_k(np.array([[np.nan, 1.0, 2.0, np.nan]]), 2).tolist() == [[2, 1]]


def test_no_rows_and_no_columns_give_empty_rankings() -> None:
    assert top_k(np.zeros((0, 5)), 3).shape == (0, 3)
    assert top_k(np.zeros((4, 0)), 3).shape == (4, 0)


def test_min_max_scales_each_row_alone() -> None:
    scaled = min_max(np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]]))
    assert scaled.tolist() == [[0, 1, 0.5], [0, 0, 0]]


def test_fusion_runs_from_lexical_to_dense() -> None:
    dense, lexical = np.array([[0.1, 0.9, 0.5]]), np.array([[8.0, 0.0, 2.0]])
    assert top_k(fuse(dense, lexical, 0.0), 1).tolist() == [[0]]
    assert top_k(fuse(dense, lexical, 1.0), 1).tolist() == [[1]]
    np.testing.assert_allclose(fuse(dense, lexical, 0.5), [[0.5, 0.5, 0.375]])


@given(
    npst.arrays(np.float32, (2, 3, 40), elements=st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0])),
    st.integers(0, 12),
)
def test_the_best_mixtures_are_those_of_all_nodes(scores: np.ndarray, k: int) -> None:
    dense, lexical = min_max(scores[0]), min_max(scores[1])
    weights = (0.0, 0.1, 0.5, 0.9, 1.0)
    found = best_mixtures(dense, lexical, weights, k)
    for weight, best in zip(weights, found):
        np.testing.assert_array_equal(best, top_k(mix(dense, lexical, weight), k))


def test_mixtures_with_what_is_no_number_are_ranked() -> None:
    dense, lexical = np.full((1, 3), np.nan, np.float32), np.ones((1, 3), np.float32)
    assert best_mixtures(dense, lexical, [0.5], 2)[0].tolist() == [[0, 1]]


@pytest.mark.parametrize("missing", [0, 150, 2990])
def test_the_best_of_a_wide_row_are_those_of_a_sort(missing: int) -> None:
    draw = np.random.default_rng(missing)
    scores = draw.integers(0, 400, (4, 3000)).astype(np.float32)
    scores[1, draw.permutation(3000)[:missing]] = np.nan
    scores[2] = np.sort(scores[2])
    scores[3, 16:] = 0  # the sample has none of the best
    for row, best in zip(scores, top_k(scores, 40)):
        np.testing.assert_array_equal(best, np.argsort(-row, kind="stable")[:40])
