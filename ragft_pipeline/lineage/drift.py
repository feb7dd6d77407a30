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
    return _adapted(step, model, pairs, _base(step))


def stacked_gain(step: Step, model: Path, pairs: pa.Table) -> np.ndarray:
    """Return what `adapter_gain` does, over the tuned embedder."""
    folder = step.artifact("tuned_embedder").model
    tuned = Encoder.tuned(folder, step.settings.embedder, step.settings.compute)
    return _adapted(step, model, pairs, tuned)


def late_gain(step: Step, model: Path, pairs: pa.Table) -> np.ndarray:
    """Return nDCG@10 of the hybrid's first 10 by tuned late interaction minus untuned, each row."""
    settings, encoder = step.settings, _base(step)
    stored = CachedTokens(step.work, encoder, settings.late_interaction.bits)
    tuned = LateInteraction.load(model, settings.embedder, settings.compute, stored)
    untuned = LateInteraction(encoder, None, stored)
    _, before, after = _reranked(step, pairs, untuned.score, tuned.score)
    return after - before


def embedder_gain(step: Step, model: Path, pairs: pa.Table) -> np.ndarray:
    """Return nDCG@10 of the tuned embedder minus its base's, for each row of QA_PAIRS in order."""
    judged = _validation(step, pairs)
    tuned = Encoder.tuned(model, step.settings.embedder, step.settings.compute)
    before, after = (judged.ndcg(*_vectors(step, judged, one)) for one in (_base(step), tuned))
    return after - before


def reranker_gain(step: Step, model: Path, pairs: pa.Table) -> np.ndarray:
    """Return nDCG@10 of the hybrid's first 10 reranked minus as they were, for each row."""
    scorer = Reranker(model, step.settings.reranker, step.settings.compute)
    before, after = _reranked(step, pairs, scorer.score)
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
    step: Step, pairs: pa.Table, *scores: Callable[[list[tuple[str, str]]], np.ndarray]
) -> list[np.ndarray]:
    """Return nDCG@10 of each row by the hybrid's first 10 as they are, and by scorers of pairs."""
    judged = _validation(step, pairs)
    statistics = TermStatistics.from_table(step.table("corpus_statistics"))
    first, _ = hybrid_candidates(judged, statistics, _RERANKED, _base(step), step.work)
    texts = list(judged.nodes.values())
    asked = [(q, texts[i]) for q, row in zip(judged.questions.texts, first) for i in row]
    ranked = [first]
    for score in scores:
        order = np.argsort(-score(asked).reshape(first.shape), axis=1, kind="stable")
        ranked.append(np.take_along_axis(first, order, axis=1))
    relevant = judged.relevant()
    return [score_rankings(own, relevant)[PRIMARY] for own in ranked]


def _adapted(step: Step, model: Path, pairs: pa.Table, encoder: Encoder) -> np.ndarray:
    judged = _validation(step, pairs)
    queries, nodes = _vectors(step, judged, encoder)
    adapter = load_adapter(model, encoder.weights.digest)
    after = judged.ndcg(adapter.queries(queries), adapter.documents(nodes))
    return after - judged.ndcg(queries, nodes)


def _base(step: Step) -> Encoder:
    return Encoder.base(step.settings.embedder, step.settings.compute)


def _vectors(step: Step, judged: Validation, encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of the questions and of the nodes."""
    _, queries = cached_vectors(step.work, encoder, judged.questions.by_id(), "query")
    _, nodes = cached_vectors(step.work, encoder, judged.nodes, "document")
    return queries, nodes
