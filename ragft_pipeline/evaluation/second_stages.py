"""Second stages: what reorders a hybrid's best candidates, and the scores of pairs it looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ragft_pipeline.evaluation.pools import Pool
from ragft_pipeline.evaluation.ranking import Ranking
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.evidence import LATE_INTERACTION
from ragft_pipeline.retrieval.late_interaction import LateInteraction
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.reranking import (
    PairScorer,
    Reranker,
    cached_pair_scores,
    is_cross_encoder,
)
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

RANKER = "ranker"
CROSS_ENCODER_RANKER = "ranker + cross-encoder"
UNTUNED_CROSS_ENCODER_RANKER = "ranker + untuned cross-encoder"  # to compare with


@dataclass
class PairScores:
    """A scorer over candidates, each pair computed once whatever first stage asks.

    A pair's score is a row: a version with the same scorer computes new pairs only.

    Attributes:
        name: of the evidence that the scores are.
        texts: returns the texts of nodes as models read them.
    """

    name: str
    scorer: PairScorer
    texts: Callable[[Sequence[int]], Sequence[str]]
    work: Workspace
    _scores: dict[tuple[str, int], float] = field(default_factory=dict)

    def ensure(self, questions: QuestionSet, candidates: Sequence[np.ndarray]) -> None:
        """Score what is missing of the candidates (arrays of shape (questions, candidates))."""
        wanted = [
            (row, node)
            for row in range(len(questions))
            for node in np.unique(np.concatenate([nodes[row] for nodes in candidates])).tolist()
            if (questions.ids[row], node) not in self._scores
        ]
        nodes = sorted({node for _, node in wanted})
        texts = dict(zip(nodes, self.texts(nodes)))
        pairs = {
            (questions.ids[row], node): (questions.texts[row], texts[node]) for row, node in wanted
        }
        name = self.name.replace(" ", "_")
        scores = cached_pair_scores(self.work, name, self.scorer, list(pairs.values()))
        self._scores |= dict(zip(pairs, scores.tolist()))

    def scores(self, questions: QuestionSet, nodes: np.ndarray) -> np.ndarray:
        """Return the scores of candidates, shape (questions, candidates); `ensure` them first."""
        return np.array(
            [[self._scores[(qid, int(n))] for n in row] for qid, row in zip(questions.ids, nodes)],
            dtype=np.float32,
        ).reshape(nodes.shape)

    def know(self, question: str, pool: Pool) -> None:
        """Take the scores that a question's pool has, by the question's id."""
        scores = pool.judged.get(self.name)
        if scores is not None:
            there = np.flatnonzero(~np.isnan(scores))
            nodes = pool.nodes[there].tolist()
            self._scores |= {
                (question, node): score for node, score in zip(nodes, scores[there].tolist())
            }

    def tell(self, question: str, pool: Pool, nodes: np.ndarray) -> None:
        """Keep the scores of some nodes in a question's pool."""
        pool.judge(self.name, nodes, [self._scores[question, node] for node in nodes.tolist()])

    def at_hand(self, nodes: np.ndarray) -> PairScores:
        """Return the same with what late interaction compares of some nodes in memory."""
        scorer = self.scorer
        if isinstance(scorer, LateInteraction):
            scorer = scorer.holding(self.texts(np.unique(nodes).tolist()))
        return replace(self, scorer=scorer)


def staged_name(first_stage: str, stage: str) -> str:
    """Return the name of a first stage with a second stage over its candidates."""
    return f"{first_stage} + {stage}"


def by_scores(nodes: np.ndarray, scores: np.ndarray) -> Ranking:
    """Return candidates in the order of their scores, both (questions, candidates)."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return Ranking(
        np.take_along_axis(nodes, order, axis=1), np.take_along_axis(scores, order, axis=1)
    )


def scorers_of(models: Models, settings: Settings, work: Workspace) -> dict[str, PairScorer]:
    """Return late interaction, and by second stage the tuned cross-encoder.

    With it what it was tuned from, where that is a cross-encoder already.
    """
    found: dict[str, PairScorer] = {}
    if models.late_interaction is not None:
        from ragft_pipeline.retrieval.token_rows import CachedTokens

        encoder = Encoder.base(settings.embedder, settings.compute)
        stored = CachedTokens(work, encoder, settings.late_interaction.bits)
        found[LATE_INTERACTION] = LateInteraction.load(
            models.late_interaction, settings.embedder, settings.compute, stored
        )
    if models.reranker is not None:
        folders = {CROSS_ENCODER_RANKER: models.reranker}
        begun_with = settings.reranker.model
        if begun_with and is_cross_encoder(folder := resolve_weights(begun_with).folder):
            folders[UNTUNED_CROSS_ENCODER_RANKER] = folder
        for stage, folder in folders.items():
            found[stage] = Reranker(folder, settings.reranker, settings.compute)
    return found
