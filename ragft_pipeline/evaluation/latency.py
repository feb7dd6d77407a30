"""Latency a query: one question at a time, as a service would see it, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ragft_pipeline import schemas
from ragft_pipeline.evaluation.choosing import Choices
from ragft_pipeline.evaluation.second_stages import (
    LATE_INTERACTION,
    RANKER,
    SecondStage,
    by_scores,
    staged_name,
)
from ragft_pipeline.evaluation.systems import (
    DenseRetriever,
    FirstStages,
    hybrid_name,
)
from ragft_pipeline.retrieval.evidence import Evidence
from ragft_pipeline.retrieval.metrics import DEPTH
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.ranker import Ranker
from ragft_pipeline.retrieval.search import fuse, top_k
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

_RERANKED = 4


def measure_latency(
    stages: FirstStages,
    choices: Choices,
    second_stages: Sequence[SecondStage],
    evidence: Evidence,
    sets: dict[str, QuestionSet],
    settings: Settings,
    work: Workspace,
) -> pa.Table:
    """Time every system on single questions and write the LATENCY table into the artifact.

    A second stage is timed on few questions, over the first retriever's hybrid: both stages.
    """
    texts = next(iter(sets.values())).texts[: settings.evaluation.latency_queries] if sets else []
    rows = [_timed("bm25", lambda text: top_k(stages.lexical.scores([text]), DEPTH), texts)]
    for retriever in stages.retrievers:
        rows.append(_timed(retriever.name, _dense(stages, retriever), texts))
        weight = choices.fusion_weights[retriever.name]
        hybrid = _hybrid(stages, retriever, weight)
        rows.append(_timed(hybrid_name(retriever.name), hybrid, texts))
        if retriever is stages.retrievers[0]:
            for stage in second_stages:
                name = staged_name(hybrid_name(retriever.name), stage.name)
                rows.append(_timed(name, _staged(hybrid, stage), texts[:_RERANKED]))
            name = staged_name(hybrid_name(retriever.name), RANKER)
            ranked = _ranked(stages, retriever, evidence, second_stages)
            rows.append(_timed(name, ranked, texts[:_RERANKED]))
    table = pa.Table.from_pylist(rows, schema=schemas.LATENCY.schema)
    pq.write_table(table, work.folder / f"{schemas.LATENCY.name}.parquet")
    return table


def _dense(stages: FirstStages, retriever: DenseRetriever) -> Callable[[str], np.ndarray]:
    return lambda text: stages.nearest(retriever, retriever.encode([text]))


def _hybrid(
    stages: FirstStages, retriever: DenseRetriever, weight: float
) -> Callable[[str], np.ndarray]:
    def search(text: str) -> np.ndarray:
        words = retriever.lexical.scores([text])
        scores = stages.score(retriever, retriever.encode([text]), words)
        return scores.best(fuse(scores.dense, scores.words, weight)).nodes

    return search


def _staged(first: Callable[[str], np.ndarray], stage: SecondStage) -> Callable[[str], np.ndarray]:
    def search(text: str) -> np.ndarray:
        nodes = first(text)[0, : stage.depth]
        scores = stage.scorer.score([(text, stage.node_texts[i]) for i in nodes])
        return np.asarray(nodes[np.argsort(-scores)])

    return search


def _ranked(
    stages: FirstStages,
    retriever: DenseRetriever,
    evidence: Evidence,
    second_stages: Sequence[SecondStage],
) -> Callable[[str], np.ndarray]:
    late = [stage for stage in second_stages if stage.name == LATE_INTERACTION]

    def search(text: str) -> np.ndarray:
        words = retriever.lexical.scores([text])
        scores = stages.score(retriever, retriever.encode([text]), words)
        found = evidence.candidates([text], scores.dense, scores.words, scores.dense, scores.nodes)
        for stage in late:
            pairs = [(text, stage.node_texts[node]) for node in found.nodes[0]]
            found = found.with_scores(LATE_INTERACTION, stage.scorer.score(pairs)[None])
        ranked = Ranker.prior(found.names).scores(found.names, found.features)
        return by_scores(found.nodes, ranked).nodes

    return search


def _timed(name: str, search: Callable[[str], np.ndarray], texts: list[str]) -> dict[str, object]:
    times = []
    for text in texts[:1] + texts:
        start = time.perf_counter()
        search(text)
        times.append((time.perf_counter() - start) * 1000)
    p50, p95 = np.percentile(times[1:], [50, 95]) if texts else (0.0, 0.0)
    return {"system": name, "queries": len(texts), "p50_ms": float(p50), "p95_ms": float(p95)}
