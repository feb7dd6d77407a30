"""What leads of all nodes by a question's scores, and how high the others are at most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ragft_pipeline.evaluation.pools import Shape
from ragft_pipeline.retrieval.search import MIDDLE, mix, top_k

MARGIN = 1e-5  # of scaled scores: products of other shapes round otherwise
_LOWEST = 8  # nodes with the lowest cosines
_NEAR = 0.02  # below what is among the best, scaled


@dataclass(frozen=True)
class Leaders:
    """What leads by cosine, by BM25 or by any mixture of them, of all nodes.

    Attributes:
        members: places of the best by each weight and of the lowest cosines.
        middle: of these the best by the middle weight, if there are hybrids.
        last: the place of the last of the best by BM25.
        low, high, least, most: the lowest and highest cosine and BM25 score.
        ceiling: the lowest cosine of those that are not among the lowest.
        near: places of all that may pass a floor; `mixtures` are theirs, (weights, near).
        beyond: no other node has a higher mixture, (weights,).
    """

    members: np.ndarray
    middle: np.ndarray
    last: np.ndarray
    low: float
    high: float
    least: float
    most: float
    ceiling: float
    near: np.ndarray
    mixtures: np.ndarray
    beyond: np.ndarray

    @classmethod
    def of(cls, dense: np.ndarray, words: np.ndarray, shape: Shape) -> Leaders:
        """Return what leads by the scores of all nodes, of which there are more than that."""
        k, weights = shape.depth + shape.spare, shape.weights
        low, high, least, most = dense.min(), dense.max(), words.min(), words.max()
        scaled = (dense - low) / max(high - low, np.float32(1e-9))
        lexical = (words - least) / (most - least if most > least else np.float32(1))
        lowest = _lowest(dense, _LOWEST + 1)
        leading = top_k(lexical[None], k)[0]
        if np.count_nonzero(words > 0) < k:  # all that have any word, and the nearest of the others
            hit = np.flatnonzero(words)
            nearest = top_k(scaled[None], k + len(hit))[0]
            near = np.union1d(np.union1d(hit, nearest), leading)
            beyond = weights * float(scaled[nearest[-1]])
            mixtures = _mixtures(scaled[near], lexical[near], weights)
        else:
            middle = mix(scaled, lexical, MIDDLE) if shape.grid else lexical
            known = [leading, *(top_k(own[None], k)[0] for own in (scaled, middle))]
            some = np.unique(np.concatenate(known))
            worst = np.partition(_mixtures(scaled[some], lexical[some], weights), -k)[:, -k]
            if shape.grid:
                near = _near(scaled, lexical, middle, weights, worst - _NEAR)
            else:
                near = np.flatnonzero(np.maximum(scaled, lexical) >= worst.min() - _NEAR)
            mixtures = _mixtures(scaled[near], lexical[near], weights)
            held = (mixtures >= (worst - _NEAR)[:, None]).any(axis=0)
            near, mixtures = near[held], mixtures[:, held]
            beyond = worst.astype(float) - _NEAR
        best = near[np.argpartition(-mixtures[1:], k - 1)[:, :k]]
        by_middle = best[weights[1:] == MIDDLE].reshape(-1)
        members = np.unique(np.concatenate([best, leading, lowest[:-1]], axis=None))
        return cls(
            members, by_middle, leading[-1], float(low), float(high), float(least), float(most),
            float(dense[lowest[-1]]), near, mixtures, beyond,
        )  # fmt: skip

    def scaled(self, words: np.ndarray) -> np.ndarray:
        """Return BM25 scores, scaled."""
        return np.asarray((words - self.least) / max(self.most - self.least, 1e-9))

    def floors(self, inside: np.ndarray) -> np.ndarray:
        """Return the highest mixtures of those that are not inside, float64 (weights,)."""
        outside = self.mixtures[:, ~inside[self.near]]
        return np.maximum(self.beyond, outside.max(axis=1, initial=0.0)) + MARGIN


def _near(
    dense: np.ndarray, words: np.ndarray, middle: np.ndarray, weights: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """Return the places of all nodes that any mixture gives its least score, and of others.

    A mixture is no higher than the higher of two on either side of it.

    Args:
        dense, words, middle: scores and their even mixture, scaled, float32 (nodes,).
        least: by weight.
    """
    near = np.zeros(len(dense), bool)
    before, start = words, 0.0
    for end in (0.25, MIDDLE, 0.75, 1.0):
        mixed = {MIDDLE: middle, 1.0: dense}.get(end)
        mixed = mix(dense, words, end) if mixed is None else mixed
        between = least[(weights >= start) & (weights <= end)]
        if len(between):
            near |= np.maximum(before, mixed) >= between.min()
        before, start = mixed, end
    return np.flatnonzero(near)


def _lowest(scores: np.ndarray, number: int) -> np.ndarray:
    """Return the places of the lowest scores, the lowest first."""
    some = scores[:: max(1, len(scores) // 4096)]
    few = np.flatnonzero(scores <= np.partition(some, number - 1)[number - 1])
    return few[np.argsort(scores[few], kind="stable")[:number]]


def _mixtures(dense: np.ndarray, words: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mixtures of scaled scores, float32 (weights, nodes)."""
    shares = weights.astype(np.float32)[:, None]
    return np.asarray(shares * dense + (1 - shares) * words)
