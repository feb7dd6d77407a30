"""The one metrics module: per-question results of a ranking, with binary or graded relevance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

METRICS = ("hit_at_1", "hit_at_5", "hit_at_10", "mrr_at_10", "ndcg_at_10", "recall_at_100")
PRIMARY = "ndcg_at_10"
DEPTH = 100


def score_rankings(rankings: np.ndarray, relevant: Sequence[Set[int]]) -> dict[str, np.ndarray]:
    """Return every metric for every question.

    Args:
        rankings: node indices, best first, of shape (questions, up to 100).
        relevant: for each question the indices of its relevant nodes, at least one.

    Returns float64 arrays of shape (questions,) by metric name, and `first_rank` (from 1; 0 where
    no relevant node was found). nDCG's ideal ranking has min(10, relevant) hits on top.
    """
    depth = rankings.shape[1]
    hits = np.zeros(rankings.shape, dtype=bool)
    for row, wanted in enumerate(relevant):
        hits[row] = np.isin(rankings[row], list(wanted))
    counts = np.array([len(wanted) for wanted in relevant], dtype=float)
    any_hit = hits.any(axis=1)
    first = np.where(any_hit, hits.argmax(axis=1) + 1, 0)
    gains = 1 / np.log2(np.arange(2, 12))
    top = hits[:, :10] @ gains[: min(10, depth)]
    ideal = np.cumsum(gains)[np.minimum(counts, 10).astype(int) - 1]
    within = {k: (first > 0) & (first <= k) for k in (1, 5, 10)}
    return {
        **{f"hit_at_{k}": found.astype(float) for k, found in within.items()},
        "mrr_at_10": np.where(within[10], 1 / np.maximum(first, 1), 0.0),
        "ndcg_at_10": top / ideal,
        "recall_at_100": hits.sum(axis=1) / counts,
        "first_rank": first.astype(float),
    }


def graded_ndcg(
    rankings: np.ndarray, grades: Sequence[Mapping[int, int]], depth: int = 10
) -> np.ndarray:
    """Return each question's nDCG of the first `depth`, a node's gain being its grade.

    Linear gains, as trec_eval takes them; where all grades are 1 it is `ndcg_at_10`.

    Args:
        rankings: node indices, best first, of shape (questions, n); -1 is no node.
        grades: for each question the grades of its judged nodes, at least one above 0.
    """
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    found = np.zeros(len(rankings))
    for row, own in enumerate(grades):
        gains = np.array([own.get(node, 0) for node in rankings[row, :depth].tolist()], float)
        best = np.array(sorted(own.values(), reverse=True)[:depth], float)
        found[row] = gains @ discounts[: len(gains)] / (best @ discounts[: len(best)])
    return found


def unjudged_share(rankings: np.ndarray, judged: Sequence[Set[int]], depth: int = 10) -> np.ndarray:
    """Return for each question the share of its first `depth` that nobody has judged."""
    shares = np.zeros(len(rankings))
    for row, known in enumerate(judged):
        top = rankings[row, :depth]
        shares[row] = 1 - np.isin(top, list(known)).mean() if len(top) else 0.0
    return shares


def condensed(rankings: np.ndarray, judged: Sequence[Set[int]]) -> np.ndarray:
    """Return the rankings without what nobody has judged, filled up with -1.

    Condensed lists (Sakai 2007): beside `graded_ndcg` of the whole rankings, that of these says
    what a system would score if what nobody judged did not count against it.
    """
    kept = np.full(rankings.shape, -1, dtype=np.int64)
    for row, known in enumerate(judged):
        own = rankings[row][np.isin(rankings[row], list(known))]
        kept[row, : len(own)] = own
    return kept


def nearest_sufficient(
    candidates: Sequence[float], scores: Sequence[np.ndarray], prior: float
) -> float:
    """Return the candidate nearest to `prior` that is within one standard error of the best."""
    order = sorted(range(len(candidates)), key=lambda i: abs(candidates[i] - prior))
    best = smallest_sufficient([candidates[i] for i in order], [scores[i] for i in order])
    return float(candidates[order[best]])


def mean_of(values: np.ndarray) -> float:
    """Return the mean, 0 of nothing."""
    return float(values.mean()) if len(values) else 0.0


def smallest_sufficient(candidates: Sequence[float], scores: Sequence[np.ndarray]) -> int:
    """Choose the first candidate that is within one standard error of the best.

    The one-standard-error rule (Breiman et al. 1984) on paired per-question scores: candidates are
    in order of caution, and a stronger one must beat a more cautious one by more than the noise of
    their difference.

    Returns the index of the choice.
    """
    means = [mean_of(values) for values in scores]
    best = int(np.argmax(means))
    for index in range(len(candidates)):
        difference = scores[best] - scores[index]
        error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else 0.0
        if means[best] - means[index] <= error:
            return index
    return best
