"""Paired differences: bootstrap intervals and randomization tests over units of questions.

Questions about one document are not independent, so units of them are drawn, not questions (Efron &
Tibshirani 1993; Smucker et al. 2007 for paired tests in retrieval): document clusters, or where
these are too few to draw from, the questions that one passage answers.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

_BLOCK = 1000
_MOST_SAMPLES = 200_000
MIN_UNITS = 5  # a bootstrap over fewer has intervals that are far too narrow
_MIN_DOCUMENTS = 10  # fewer document clusters are no units: their passages are


@dataclass(frozen=True)
class Difference:
    """A mean paired difference, its interval (95% unless said), its questions and clusters."""

    mean: float
    low: float
    high: float
    questions: int
    clusters: int

    @property
    def gain(self) -> bool:
        """Whether the whole interval is above zero, over enough clusters to say so."""
        return self.low > 0 and self.clusters >= MIN_UNITS

    @property
    def loss(self) -> bool:
        """Whether the whole interval is below zero, over enough clusters to say so."""
        return self.high < 0 and self.clusters >= MIN_UNITS

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_difference(
    challenger: np.ndarray,
    base: np.ndarray,
    clusters: Sequence[str],
    samples: int = 10_000,
    seed: int = 13,
    alpha: float = 0.05,
) -> Difference:
    """Return the mean of `challenger - base` and its bootstrap interval.

    Args:
        challenger, base: scores of the same questions in the same order, shape (questions,).
        clusters: the document cluster of each question.
        samples: bootstrap samples.
        alpha: 1 less the interval's confidence.
    """
    difference = np.asarray(challenger, float) - np.asarray(base, float)
    if not len(difference):
        return Difference(0.0, 0.0, 0.0, 0, 0)
    means, number = _resampled_means(difference, clusters, samples, np.random.default_rng(seed))
    low, high = np.percentile(means, [50 * alpha, 100 - 50 * alpha])
    return Difference(float(difference.mean()), float(low), float(high), len(difference), number)


def standard_error(differences: np.ndarray, units: Sequence[str]) -> float:
    """Return the standard error of a mean of paired differences, by units of them

    that depend on each other (Liang & Zeger 1986, corrected for their number); 0 of one unit.
    """
    away = differences - differences.mean()
    _, members = np.unique(np.asarray(units), return_inverse=True)
    sums = np.bincount(members, away)
    number = len(sums)
    if number < 2:
        return 0.0
    return float(np.sqrt((sums**2).sum() * number / (number - 1)) / len(differences))


def units_of(clusters: Sequence[str], relevant: Sequence[Collection[Hashable]]) -> list[str]:
    """Return each question's unit: of questions that depend on each other.

    Document clusters where there are ten; else, as for the questions that people ask of the same
    few documents, those that share an answering passage.

    Args:
        relevant: the passages that answer each question.
    """
    if len(set(clusters)) >= _MIN_DOCUMENTS:
        return list(clusters)
    root: dict[Hashable, Hashable] = {}

    def find(passage: Hashable) -> Hashable:
        while (above := root.setdefault(passage, passage)) != passage:
            passage = above
        return passage

    for passages in relevant:
        first, *others = passages
        for other in others:
            root[find(other)] = find(first)
    return [str(find(next(iter(passages)))) for passages in relevant]


def randomization_p(
    challenger: np.ndarray,
    base: np.ndarray,
    clusters: Sequence[str],
    samples: int = 10_000,
    seed: int = 13,
    level: float = 0.05,
) -> float:
    """Return the one-sided p value of `challenger` being no better than `base`.

    Fisher's randomization test on paired scores (Smucker et al. 2007): under the null hypothesis
    the two systems' scores could be exchanged, here for all questions of a cluster at once. For a
    level that random signs are too few to reach, Hoeffding's bound (1963) of their sum stands in:
    it is never too small.
    """
    difference = np.asarray(challenger, float) - np.asarray(base, float)
    if not len(difference):
        return 1.0
    _, members = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(members, difference)
    samples = max(samples, int(20 / level))
    if samples > _MOST_SAMPLES:
        total = max(0.0, float(sums.sum()))
        return float(np.exp(-(total**2) / (2 * max(1e-12, float((sums**2).sum())))))
    random = np.random.default_rng(seed)
    reached = 0
    for start in range(0, samples, _BLOCK):
        signs = random.choice((-1.0, 1.0), size=(min(_BLOCK, samples - start), len(sums)))
        reached += int((signs @ sums >= sums.sum() - 1e-12).sum())
    return (reached + 1) / (samples + 1)


def unpaired_difference(
    left: np.ndarray,
    left_clusters: Sequence[str],
    right: np.ndarray,
    right_clusters: Sequence[str],
    samples: int = 10_000,
    seed: int = 13,
) -> Difference:
    """Return `mean(left) - mean(right)` of different questions and its bootstrap interval.

    Each side is resampled by its own clusters; `clusters` of the result is the smaller number.
    """
    random = np.random.default_rng(seed)
    left_means, left_number = _resampled_means(left, left_clusters, samples, random)
    right_means, right_number = _resampled_means(right, right_clusters, samples, random)
    low, high = np.percentile(left_means - right_means, [2.5, 97.5])
    mean = float(np.mean(left) - np.mean(right))
    questions = len(left) + len(right)
    return Difference(mean, float(low), float(high), questions, min(left_number, right_number))


def _resampled_means(
    values: np.ndarray, clusters: Sequence[str], samples: int, random: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Return the means of bootstrap samples of whole clusters, and the number of clusters."""
    _, members = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(members, values), np.bincount(members).astype(float)
    number = len(sums)
    means = []
    for start in range(0, samples, _BLOCK):
        size = min(_BLOCK, samples - start)
        drawn = random.multinomial(number, np.full(number, 1 / number), size=size)
        means.append((drawn @ sums) / (drawn @ counts))
    return np.concatenate(means), number
