"""The one metrics module: per-question results of a ranking, with binary or graded relevance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

METRICS = ("hit_at_1", "hit_at_5", "hit_at_10", "mrr_at_10", "ndcg_at_10", "recall_at_100")
PRIMARY = "ndcg_at_10"
POOLED = ("unjudged_at_10", "condensed_ndcg_at_10")
DEPTH = 100


Judged = Mapping[int, int] | Set[int]
"""The grades of the nodes that were judged of a question, 0: it does not answer; a set's are 1."""


def score_rankings(rankings: np.ndarray, judged: Sequence[Judged]) -> dict[str, np.ndarray]:
    """Return every metric for every question.

    Args:
        rankings: node indices, best first, of shape (questions, up to 100); -1 is no node.
        judged: each question's, at least one grade above 0.

    Returns float64 arrays of shape (questions,) by metric name, and `first_rank` (from 1; 0 where
    no relevant node was found). Relevant is what has a grade above 0.
    """
    depth = rankings.shape[1]
    relevant = [_relevant(own) for own in judged]
    hits = np.zeros(rankings.shape, dtype=bool)
    for row, wanted in enumerate(relevant):
        hits[row] = np.isin(rankings[row], wanted)
    counts = np.array([len(wanted) for wanted in relevant], dtype=float)
    any_hit = hits.any(axis=1)
    first = np.where(any_hit, hits.argmax(axis=1) + 1, 0) if depth else np.zeros(len(hits), int)
    within = {k: (first > 0) & (first <= k) for k in (1, 5, 10)}
    return {
        **{f"hit_at_{k}": found.astype(float) for k, found in within.items()},
        "mrr_at_10": np.where(within[10], 1 / np.maximum(first, 1), 0.0),
        PRIMARY: ndcg(rankings, judged),
        "recall_at_100": hits.sum(axis=1) / counts,
        "first_rank": first.astype(float),
    }


def _relevant(judged: Judged) -> list[int]:
    if isinstance(judged, Mapping):
        return [node for node, grade in judged.items() if grade > 0]
    return list(judged)


def ndcg(rankings: np.ndarray, judged: Sequence[Judged], depth: int = 10) -> np.ndarray:
    """Return each question's nDCG of the first `depth`, a node's gain being its grade.

    Linear gains, as trec_eval takes them. The ideal ranking has the best grades on top.
    """
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    found = np.zeros(len(rankings))
    for row, own in enumerate(judged):
        grades = own if isinstance(own, Mapping) else dict.fromkeys(own, 1)
        gains = np.array([grades.get(node, 0) for node in rankings[row, :depth].tolist()], float)
        best = np.array(sorted(grades.values(), reverse=True)[:depth], float)
        found[row] = gains @ discounts[: len(gains)] / (best @ discounts[: len(best)])
    return found


def pooled_scores(
    rankings: np.ndarray, judged: Sequence[Mapping[int, int]]
) -> dict[str, np.ndarray]:
    """Return what is to be known beside nDCG of questions that were judged from a pool.

    A pool names what does not answer as well, so what it does not name was seen by nobody.
    `unjudged_at_10` is the share of the first ten that nobody judged. `condensed_ndcg_at_10` is
    nDCG of the ranking without all that (condensed lists, Sakai 2007): what a system would score if
    it did not count against it.

    Returns float64 arrays of shape (questions,); NaN where no node was judged not to answer.
    """
    found = {name: np.full(len(rankings), np.nan) for name in POOLED}
    for row, own in enumerate(judged):
        if 0 in own.values():
            known = np.isin(rankings[row], list(own))
            found["unjudged_at_10"][row] = 1 - known[:10].mean() if len(known) else 0.0
            found["condensed_ndcg_at_10"][row] = ndcg(rankings[row][known][None, :], [own])[0]
    return found


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
