from __future__ import annotations

import numpy as np
import pytest

from ragft_pipeline.evaluation.significance import Difference, paired_difference


def scores(seed: int, clusters: int, each: int, effect: float) -> tuple[np.ndarray, list[str]]:
    """Return paired differences whose clusters have a part in common."""
    draw = np.random.default_rng(seed)
    shared = np.repeat(draw.normal(effect, 0.1, clusters), each)
    names = [f"c{n}" for n in range(clusters) for _ in range(each)]
    return shared + draw.normal(0, 0.05, clusters * each), names


def difference(seed: int, clusters: int, each: int, effect: float, samples: int) -> Difference:
    values, names = scores(seed, clusters, each, effect)
    return paired_difference(values, np.zeros(len(values)), names, samples=samples)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        found = difference(seed, 40, 4, 0.05, samples=400)
        covered += found.low <= 0.05 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_clusters_widen_the_interval() -> None:
    values, names = scores(1, 20, 10, 0.0)
    zeros, alone = np.zeros(len(values)), [str(n) for n in range(len(values))]
    clustered, single = (paired_difference(values, zeros, c) for c in (names, alone))
    assert clustered.mean == single.mean
    assert clustered.high - clustered.low > 1.5 * (single.high - single.low)
    assert (clustered.questions, clustered.clusters) == (200, 20)
    assert (single.questions, single.clusters) == (200, 200)


def test_the_interval_is_the_same_every_time() -> None:
    assert difference(3, 20, 3, 0.1, 1500) == difference(3, 20, 3, 0.1, 1500)


def test_the_order_of_questions_does_not_matter() -> None:
    values, names = scores(3, 10, 3, 0.1)
    zeros = np.zeros(len(values))
    left = paired_difference(values, zeros, names)
    right = paired_difference(values[::-1], zeros, names[::-1])
    assert (left.mean, left.low, left.high) == pytest.approx((right.mean, right.low, right.high))


def test_a_plain_gain_and_a_plain_loss_are_told() -> None:
    gain, loss = (difference(5, 40, 3, effect, 1000) for effect in (0.2, -0.2))
    assert (gain.gain, gain.loss) == (True, False)
    assert (loss.gain, loss.loss) == (False, True)
    assert gain.low < gain.mean < gain.high


def test_equal_systems_are_neither() -> None:
    same = paired_difference(np.ones(9), np.ones(9), list("abcabcabc"))
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    assert not same.gain
    assert not same.loss


@pytest.mark.parametrize("effect", [0.4, -0.4])
def test_one_document_proves_nothing(effect: float) -> None:
    one = paired_difference(np.full(30, effect), np.zeros(30), ["c"] * 30)
    assert one.mean == pytest.approx(effect)
    assert not one.gain
    assert not one.loss


def test_no_questions_prove_nothing() -> None:
    nothing = paired_difference(np.array([]), np.array([]), [])
    assert (nothing.questions, nothing.gain, nothing.loss) == (0, False, False)


def test_a_difference_is_written_with_its_interval() -> None:
    assert str(Difference(0.05, -0.01, 0.111, 40, 20)) == "+0.050 [-0.010, +0.111]"
