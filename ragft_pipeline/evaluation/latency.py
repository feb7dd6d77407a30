"""Latency a query: one question at a time, as a service would see it, on this machine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ragft_pipeline import schemas
from ragft_pipeline.evaluation.choosing import Choice
from ragft_pipeline.evaluation.second_stages import RANKER, PairScores, by_scores, staged_name
from ragft_pipeline.evaluation.systems import BM25, DenseRetriever, FirstStages, hybrid_name
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.retrieval.evidence import CROSS_ENCODER, LATE_INTERACTION, Candidates
from ragft_pipeline.retrieval.metrics import DEPTH
from ragft_pipeline.retrieval.ranker import Ranker
from ragft_pipeline.retrieval.search import fuse, top_k
from ragft_pipeline.store import Workspace

_RANKED = 4


def measure_latency(trial: Trial, choice: Choice, texts: Sequence[str], work: Workspace) -> None:
    """Time every system on single questions and write the LATENCY table into the artifact.

    A ranker is timed on few questions, over the first retriever's hybrid: both stages. The token
    vectors of their candidates are in memory, as a service has them.
    """
    stages = trial.whole.stages
    rows = [_timed(BM25, lambda text: top_k(stages.lexical.scores([text]), DEPTH), texts)]
    for retriever in stages.retrievers:
        rows.append(_timed(retriever.name, _dense(stages, retriever), texts))
        hybrid = hybrid_name(retriever.name)
        weight = choice.weights[hybrid]
        assert isinstance(weight, float)
        rows.append(_timed(hybrid, _hybrid(stages, retriever, weight), texts))
    base, few = stages.retrievers[0], texts[:_RANKED]
    scorers: dict[str, dict[str, PairScores]] = {RANKER: {}}
    if (late := trial.late_interaction) is not None and few:
        scorers[RANKER][LATE_INTERACTION] = late.at_hand(_candidates(trial, base, few).nodes)
    for stage, scorer in trial.cross_encoders.items():
        scorers[stage] = {**scorers[RANKER], CROSS_ENCODER: scorer}
    for stage, evidence in scorers.items():
        name = staged_name(hybrid_name(base.name), stage)
        rows.append(_timed(name, _ranked(trial, base, evidence), few))
    table = pa.Table.from_pylist(rows, schema=schemas.LATENCY.schema)
    pq.write_table(table, work.folder / f"{schemas.LATENCY.name}.parquet")


def keep_latency(earlier: Path, work: Workspace) -> None:
    """Take an earlier evaluation's LATENCY table along, whose systems search as these do."""
    name = f"{schemas.LATENCY.name}.parquet"
    shutil.copyfile(earlier / name, work.folder / name)


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


def _candidates(trial: Trial, retriever: DenseRetriever, texts: Sequence[str]) -> Candidates:
    words = retriever.lexical.scores(texts)
    scores = trial.whole.stages.score(retriever, retriever.encode(texts), words)
    return trial.whole.evidence.candidates(
        texts, scores.dense, scores.words, scores.dense, scores.nodes
    )


def _ranked(
    trial: Trial, retriever: DenseRetriever, scorers: Mapping[str, PairScores]
) -> Callable[[str], np.ndarray]:
    def search(text: str) -> np.ndarray:
        found = _candidates(trial, retriever, [text])
        for name, stage in scorers.items():
            pairs = [(text, passage) for passage in stage.texts(found.nodes[0].tolist())]
            found = found.with_scores(name, stage.scorer.score(pairs)[None])
        ranked = Ranker.prior(found.names).scores(found.names, found.features)
        return by_scores(found.nodes, ranked).nodes

    return search


def _timed(
    name: str, search: Callable[[str], np.ndarray], texts: Sequence[str]
) -> dict[str, object]:
    times = []
    for text in (*texts[:1], *texts):
        start = time.perf_counter()
        search(text)
        times.append((time.perf_counter() - start) * 1000)
    p50, p95 = np.percentile(times[1:], [50, 95]) if texts else (0.0, 0.0)
    return {"system": name, "queries": len(texts), "p50_ms": float(p50), "p95_ms": float(p95)}
