"""Second stages: what reorders a hybrid's best candidates, mixed with its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ragft_pipeline.evaluation.ranking import Ranking
from ragft_pipeline.retrieval.evidence import LATE_INTERACTION
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.reranking import PairScorer, blend, cached_pair_scores
from ragft_pipeline.store import Workspace

RERANKER = "reranker"
UNTUNED_RERANKER = "untuned reranker"  # what the reranker was tuned from, to compare
RANKER = "ranker"
STAGES = (RANKER, LATE_INTERACTION, RERANKER)


@dataclass
class SecondStage:
    """A scorer over candidates, each pair computed once whatever first stage asks.

    A pair's score is a row: a version with the same scorer computes new pairs only.

    Attributes:
        name: `reranker` or `late interaction`.
        depth: how many candidates it reorders.
        limit: how many questions of a set it is run on; the dear ones see few.
        prior: the weight it has where the choosing questions cannot tell otherwise.
    """

    name: str
    scorer: PairScorer
    node_texts: Sequence[str]
    work: Workspace
    depth: int
    limit: int
    prior: float
    _scores: dict[tuple[str, int], float] = field(default_factory=dict)

    def ensure(self, questions: QuestionSet, candidates: Sequence[np.ndarray]) -> None:
        """Score what is missing of the candidates (arrays of shape (questions, depth))."""
        pairs = {
            (questions.ids[row], int(node)): (questions.texts[row], self.node_texts[node])
            for row in range(len(questions))
            for node in np.unique(np.concatenate([nodes[row] for nodes in candidates]))
            if (questions.ids[row], int(node)) not in self._scores
        }
        name = self.name.replace(" ", "_")
        scores = cached_pair_scores(self.work, name, self.scorer, list(pairs.values()))
        self._scores |= dict(zip(pairs, scores.tolist()))

    def scores(self, questions: QuestionSet, nodes: np.ndarray) -> np.ndarray:
        """Return the scores of candidates, shape (questions, depth); `ensure` them first."""
        return np.array(
            [[self._scores[(qid, int(n))] for n in row] for qid, row in zip(questions.ids, nodes)],
            dtype=np.float32,
        ).reshape(nodes.shape)


def staged_name(first_stage: str, stage: str) -> str:
    """Return the name of a first stage with a second stage's scores mixed in."""
    return f"{first_stage} + {stage}"


def rerank(first: Ranking, scores: np.ndarray, weight: float) -> Ranking:
    """Reorder the candidates by the blend of both scores; what lies below keeps its order.

    Args:
        scores: the second stage's, shape (questions, depth), of the first `depth` candidates.
    """
    depth = scores.shape[1]
    mixed = blend(first.scores[:, :depth], scores, weight)
    best = by_scores(first.nodes[:, :depth], mixed)
    return Ranking(
        np.concatenate([best.nodes, first.nodes[:, depth:]], axis=1),
        np.concatenate([best.scores, first.scores[:, depth:]], axis=1),
    )


def by_scores(nodes: np.ndarray, scores: np.ndarray) -> Ranking:
    """Return candidates in the order of their scores, both (questions, candidates)."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return Ranking(
        np.take_along_axis(nodes, order, axis=1), np.take_along_axis(scores, order, axis=1)
    )
