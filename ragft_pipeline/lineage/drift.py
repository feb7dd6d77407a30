"""How much each kind of model gains over what it was made from, question by question.

Used to judge a model of an earlier version on a new version's questions (`retrain_policy: drift`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.lineage.steps import Step
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.late_interaction import LateInteraction
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.retrieval.metrics import PRIMARY, score_rankings
from ragft_pipeline.retrieval.reranking import Reranker
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.retrieval.token_rows import CachedTokens
from ragft_pipeline.tuning.candidates import hybrid_candidates
from ragft_pipeline.tuning.data import Questions, Validation

_RERANKED = 10


def adapter_gain(step: Step, model: Path, pairs: pa.Table) -> np.ndarray:
    """Return nDCG@10 with the adapter minus without it, for each row of QA_PAIRS in order."""
    judged, queries, nodes = _base_vectors(step, pairs)
    encoder = Encoder.base(step.settings.embedder, step.settings.compute)
    adapter = load_adapter(model, encoder.weights.digest)
    after = judged.ndcg(adapter.queries(queries), adapter.documents(nodes))
    return after - judged.ndcg(queries, nodes)


def stacked_gain(step: Step, model: Path, pairs: pa.Table) -> np.ndarray:
    """Return what `adapter_gain` does, over the tuned embedder."""
    folder = step.artifact("tuned_embedder").model
    tuned = Encoder.tuned(folder, step.settings.embedder, step.settings.compute)
    judged = _validation(step, pairs)
    _, queries = cached_vectors(step.work, tuned, judged.questions.by_id(), "query")
    _, nodes = cached_vectors(step.work, tuned, judged.nodes, "document")
    adapter = load_adapter(model, tuned.weights.digest)
    after = judged.ndcg(adapter.queries(queries), adapter.documents(nodes))
    return after - judged.ndcg(queries, nodes)


def late_gain(step: Step, model: Path, pairs: pa.Table) -> np.ndarray:
    """Return nDCG@10 of the hybrid's first 10 by tuned late interaction minus untuned, each row."""
    settings = step.settings
    encoder = Encoder.base(settings.embedder, settings.compute)
    stored = CachedTokens(step.work, encoder, settings.late_interaction.bits)
    tuned = LateInteraction.load(model, settings.embedder, settings.compute, stored)
    after, before = (
        _reranked(step, pairs, scorer.score)[0]
        for scorer in (tuned, LateInteraction(encoder, None, stored))
    )
    return after - before


def embedder_gain(step: Step, model: Path, pairs: pa.Table) -> np.ndarray:
    """Return nDCG@10 of the tuned embedder minus its base's, for each row of QA_PAIRS in order."""
    judged, queries, nodes = _base_vectors(step, pairs)
    tuned = Encoder.tuned(model, step.settings.embedder, step.settings.compute)
    _, tuned_queries = cached_vectors(step.work, tuned, judged.questions.by_id(), "query")
    _, tuned_nodes = cached_vectors(step.work, tuned, judged.nodes, "document")
    return judged.ndcg(tuned_queries, tuned_nodes) - judged.ndcg(queries, nodes)


def reranker_gain(step: Step, model: Path, pairs: pa.Table) -> np.ndarray:
    """Return nDCG@10 of the hybrid's first 10 reranked minus as they were, for each row."""
    scorer = Reranker(model, step.settings.reranker, step.settings.compute)
    after, before = _reranked(step, pairs, scorer.score)
    return after - before


JUDGES = {
    "embedding_adapter": adapter_gain,
    "stacked_adapter": stacked_gain,
    "late_interaction": late_gain,
    "tuned_embedder": embedder_gain,
    "reranker": reranker_gain,
}


def _validation(step: Step, pairs: pa.Table) -> Validation:
    columns = (pairs.column(name).to_pylist() for name in ("question_id", "question", "node_id"))
    texts = node_texts(step.table("train_nodes"), step.table("val_nodes"))
    return Validation(Questions(*columns), texts)


def _reranked(
    step: Step, pairs: pa.Table, score: Callable[[list[tuple[str, str]]], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return nDCG@10 of the hybrid's first 10 by a scorer of pairs, and as they were, each row."""
    judged = _validation(step, pairs)
    statistics = TermStatistics.from_table(step.table("corpus_statistics"))
    encoder = Encoder.base(step.settings.embedder, step.settings.compute)
    first, _ = hybrid_candidates(judged, statistics, _RERANKED, encoder, step.work)
    texts = list(judged.nodes.values())
    asked = [(q, texts[i]) for q, row in zip(judged.questions.texts, first) for i in row]
    order = np.argsort(-score(asked).reshape(first.shape), axis=1, kind="stable")
    ranked = np.take_along_axis(first, order, axis=1)
    after, before = (score_rankings(own, judged.relevant())[PRIMARY] for own in (ranked, first))
    return after, before


def _base_vectors(step: Step, pairs: pa.Table) -> tuple[Validation, np.ndarray, np.ndarray]:
    judged = _validation(step, pairs)
    encoder = Encoder.base(step.settings.embedder, step.settings.compute)
    _, queries = cached_vectors(step.work, encoder, judged.questions.by_id(), "query")
    _, nodes = cached_vectors(step.work, encoder, judged.nodes, "document")
    return judged, queries, nodes
