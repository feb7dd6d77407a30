"""Tuned late interaction: how much each token of a question counts; passages stay.

Over frozen token vectors a token counts by a power of its inverse frequency in the train nodes. Val
chooses the power, 0 (no tuning) among them, by the one-standard-error rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ragft_pipeline.compute.mapping import batches
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.late_interaction import LateInteraction
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.retrieval.metrics import PRIMARY, mean_of, score_rankings, smallest_sufficient
from ragft_pipeline.retrieval.question_tuning import QuestionTuning
from ragft_pipeline.retrieval.reranking import blend
from ragft_pipeline.retrieval.token_rows import CachedTokens
from ragft_pipeline.retrieval.wording import inverse_frequency
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.candidates import hybrid_candidates
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.data import TrainingTables, Validation

_AT_ONCE = 4096  # passages
_MEASURED = 1024  # passages whose storage is told
_LOADING = """
from ragft_pipeline.retrieval.late_interaction import LateInteraction
from ragft_pipeline.settings import load_settings
settings = load_settings()
late = LateInteraction.load(THIS_FOLDER, settings.embedder, settings.compute)
scores = late.score([(question, passage)])
"""


def tune_late_interaction(
    tables: TrainingTables, statistics: TermStatistics, settings: Settings, work: Workspace
) -> dict[str, Any]:
    """Tune over the base embedder and save into the workspace's model folder.

    With strength 0 the folder holds no weights, and `LateInteraction.load` gives zero-shot.

    Args:
        statistics: of the corpus, for BM25 among the val nodes.

    Returns facts: the chosen strength and val nDCG@10 of the blended candidates before and after.
    """
    recipe = settings.late_interaction
    encoder = Encoder.base(settings.embedder, settings.compute)
    val = tables.validation(recipe.val_questions)
    stored = CachedTokens(work, encoder, recipe.bits)
    # counted, not learned: the whole of it is the cautious choice
    strengths = sorted({0.0, *recipe.strengths}, reverse=True)
    passages = list(tables.nodes().values())
    frequency = token_frequency(token_counts(encoder, passages), len(passages))
    whole = QuestionTuning(encoder.weights.digest, frequency)
    choices = [shrink(whole, strength) for strength in strengths]
    candidates, first = hybrid_candidates(val, statistics, recipe.depth, encoder, work)
    scores = [
        _val_ndcg(LateInteraction(encoder, choice, stored), val, candidates, first)
        for choice in choices
    ]
    best = smallest_sufficient(strengths, scores)
    zero_shot = scores[strengths.index(0.0)]
    LateInteraction(encoder, choices[best]).save(work.model)
    some = stored.of(list(val.nodes.values())[:_MEASURED])
    facts = {
        "strength": strengths[best],
        "bytes_a_passage": round(some.codes.nbytes / max(1, len(some))),
        "val_ndcg_at_10_zero_shot": mean_of(zero_shot),
        "val_ndcg_at_10": mean_of(scores[best]),
    }
    write_card(
        work.model,
        f"Late interaction over {settings.embedder.model}",
        "MaxSim over token vectors of a frozen embedder; tuning is on the question's side.",
        {"base_digest": encoder.weights.digest, **facts, **recipe.model_dump(mode="json")},
        _LOADING,
    )
    return facts


def token_counts(encoder: Encoder, passages: Sequence[str]) -> np.ndarray:
    """Return how many passages have each token, int64 of shape (vocabulary,)."""
    found = np.zeros(encoder.vocabulary, np.int64)
    for block in batches(passages, _AT_ONCE):
        for ids in encoder.token_ids(block):
            found[list(set(ids))] += 1
    return found


def token_frequency(counts: np.ndarray, passages: int) -> np.ndarray:
    """Return Lucene's inverse frequency of every token id, float32 of shape (vocabulary,).

    Args:
        counts: how many of the passages have it.
    """
    return inverse_frequency(passages, counts).astype(np.float32)


def shrink(tuning: QuestionTuning, strength: float) -> QuestionTuning | None:
    """Return a share of the tuning: its weights to a power."""
    return QuestionTuning(tuning.base_digest, tuning.weights**strength) if strength else None


def _val_ndcg(
    late: LateInteraction, val: Validation, candidates: np.ndarray, first: np.ndarray
) -> np.ndarray:
    if not candidates.size:
        return np.zeros(0)
    passages = list(val.nodes.values())
    pairs = [
        (question, passages[node])
        for question, row in zip(val.questions.texts, candidates)
        for node in row
    ]
    mixed = blend(first, late.score(pairs).reshape(candidates.shape), 0.5)
    ranked = np.take_along_axis(candidates, np.argsort(-mixed, axis=1, kind="stable"), axis=1)
    return score_rankings(ranked, val.relevant())[PRIMARY]
