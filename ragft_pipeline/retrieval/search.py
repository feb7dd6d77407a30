"""Exact top-k search and score fusion, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MIDDLE = 0.5
"""The dense weight of a hybrid where nothing tells which part is better."""

_CELLS = 1 << 24  # of a score matrix held at once, 64 MB of float32
_STRIDE = 16  # one score in so many is the sample that says how good the best are at least
_ROUNDING = 1e-5  # of mixtures of scores from 0 to 1


def rows_at_once(columns: int, most: int) -> int:
    """Return how many questions' scores over `columns` nodes are held at once, at most `most`."""
    return max(1, min(most, _CELLS // max(1, columns)))


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the indices of the `k` best columns of each row, best first.

    Equal scores keep the order of their columns, so a ranking is the same on every machine.

    Args:
        scores: float array of shape (queries, nodes).
        k: how many; fewer where there are fewer nodes.
    """
    k = min(k, scores.shape[1])
    if k == 0:
        return np.zeros((scores.shape[0], 0), dtype=np.int64)
    if k < scores.shape[1]:
        part = np.empty((len(scores), k), np.int64)
        for row, own in enumerate(scores):
            near = _near_the_best(own, k)
            edge = -np.partition(-own[near], k - 1)[k - 1]
            places = near[own[near] >= edge]
            if np.isnan(edge):  # fewer than k are numbers
                places = np.sort(np.argsort(-own, kind="stable")[:k])
            elif len(places) > k:  # of ties, the first columns
                ties = np.flatnonzero(own[places] == edge)
                places = np.delete(places, ties[k - len(places) :])
            part[row] = places
    else:
        part = np.broadcast_to(np.arange(k), scores.shape).copy()
    order = np.argsort(-np.take_along_axis(scores, part, axis=1), axis=1, kind="stable")
    return np.take_along_axis(part, order, axis=1)


def _near_the_best(scores: np.ndarray, k: int) -> np.ndarray:
    """Return places that the `k` best are among, ascending: not worse than the best of a sample."""
    sample = scores[::_STRIDE]
    if len(sample) > k:
        places = np.flatnonzero(scores >= np.partition(sample, -k)[-k])
        if len(places) >= k:  # fewer where some scores are no numbers
            return places
    return np.arange(len(scores))


def best_mixtures(
    dense: np.ndarray, lexical: np.ndarray, dense_weights: Sequence[float], k: int
) -> list[np.ndarray]:
    """Return the `top_k` of `mix` by each weight, looking at few of the nodes.

    What is among the best by any weight is no worse, by one score or the other, than the last of
    the best by all of them; some nodes that are good by any say how good that is at least.

    Args:
        dense, lexical: scores of the same scale, float arrays of shape (queries, nodes).
    """
    some = [top_k(scores, k) for scores in (dense, lexical, mix(dense, lexical, MIDDLE))]
    k = some[0].shape[1]
    found = [np.empty((len(dense), k), np.int64) for _ in dense_weights]
    for row, known in enumerate(map(np.unique, np.concatenate(some, axis=1) if k else ())):
        ours = dense[row, known], lexical[row, known]
        least = min(np.partition(mix(*ours, weight), -k)[-k] for weight in dense_weights)
        near = np.flatnonzero(~(np.maximum(dense[row], lexical[row]) < least - _ROUNDING))
        ours = dense[None, row, near], lexical[None, row, near]
        for best, weight in zip(found, dense_weights):
            best[row] = near[top_k(mix(*ours, weight), k)[0]]
    return found


def min_max(scores: np.ndarray) -> np.ndarray:
    """Scale each row to 0..1; a row of equal scores becomes 0."""
    low = scores.min(axis=1, keepdims=True)
    span = scores.max(axis=1, keepdims=True) - low
    return (scores - low) / np.where(span > 0, span, 1)


def fuse(dense: np.ndarray, lexical: np.ndarray, dense_weight: float) -> np.ndarray:
    """Return the convex combination of min-max scores (Bruch et al. 2022)."""
    return mix(min_max(dense), min_max(lexical), dense_weight)


def mix(dense: np.ndarray, lexical: np.ndarray, dense_weight: float) -> np.ndarray:
    """Return the convex combination of scores that are scaled alike."""
    return dense_weight * dense + (1 - dense_weight) * lexical
