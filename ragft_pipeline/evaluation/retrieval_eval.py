"""The evaluation of retrieval: every system on every question set, a row a question a system.

Choices (fusion weights, the reranker's weight) are made on gold dev questions where there are
enough, else on synthetic val questions; test sets only report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.latency import measure_latency
from ragft_pipeline.evaluation.question_sets import (
    QuestionSet,
    RelevanceIndex,
    gold_set,
    synthetic_set,
)
from ragft_pipeline.evaluation.systems import (
    DenseRetriever,
    FirstStages,
    PairScores,
    Ranking,
    choose_blend,
    hybrid_name,
    rerank,
    rerank_alone_name,
    reranked_name,
)
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import METRICS, score_rankings
from ragft_pipeline.retrieval.reranking import Reranker
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.data import node_texts

CHOICES_FILE = "choices.json"


@dataclass(frozen=True)
class Models:
    """The folders of the tuned models that are measured."""

    tuned_embedder: Path
    adapter: Path
    reranker: Path


@dataclass(frozen=True)
class EvaluationData:
    """The tables an evaluation reads."""

    nodes: pa.Table
    val_pairs: pa.Table
    test_pairs: pa.Table
    train_pairs: pa.Table
    gold: pa.Table


def evaluate_retrieval(
    data: EvaluationData, models: Models, settings: Settings, work: Workspace
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the EVAL_ROWS table and facts (weights chosen, counts).

    The artifact also gets the LATENCY table and the choices as JSON.
    """
    texts = node_texts(data.nodes)
    column = {node_id: index for index, node_id in enumerate(texts)}
    sets, dropped = _question_sets(data, column, settings)
    if not sets:
        raise RagftError(
            "retrieval_eval: there is no question to measure with; add documents, loosen "
            "questions.* in ragft.yaml, or give gold questions"
        )
    choosing = _choosing_set(sets, settings)
    retrievers = _retrievers(texts, models, settings, work)
    stages = FirstStages(list(texts.values()), LexicalIndex(list(texts.values())), retrievers)
    weights = stages.choose_weights(choosing, settings.evaluation.fusion_weights)
    work.progress(f"fusion weights chosen on {len(choosing)} {choosing.name} questions: {weights}")

    rows: list[pa.Table] = []
    for questions in sets.values():
        for name, ranking in stages.rank(questions, weights).items():
            rows.append(_rows(questions, name, ranking, list(texts)))
    scorer = PairScores(
        Reranker(models.reranker, settings.reranker, settings.compute),
        list(texts.values()),
        work,
    )
    blends = _rerank_all(sets, choosing, stages, weights, scorer, settings, rows, list(texts))
    choices = {
        "chosen_on": choosing.name,
        "chosen_on_questions": len(choosing),
        "fusion_weights": weights,
        "reranker_weights": blends,
    }
    (work.folder / CHOICES_FILE).write_text(json.dumps(choices, indent=1), encoding="utf-8")
    measure_latency(stages, weights, scorer, sets, settings, work)
    counts = {f"questions_{name}": len(questions) for name, questions in sets.items()}
    facts = {**counts, "nodes": len(texts), "dropped_seen_in_training": dropped}
    return pa.concat_tables(rows), facts


def _question_sets(
    data: EvaluationData, column: dict[str, int], settings: Settings
) -> tuple[dict[str, QuestionSet], int]:
    """Return the sets that have questions; test questions word for word in train are left out."""
    index = RelevanceIndex(data.nodes, column)
    trained = pa.array(data.train_pairs.column("question").to_pylist(), pa.string())
    seen = pa.compute.is_in(data.test_pairs.column("question"), value_set=trained)
    test_pairs = data.test_pairs.filter(pa.compute.invert(seen))
    limit = settings.evaluation.max_synthetic
    sets = [
        gold_set("gold_test", data.gold, "test", index),
        gold_set("gold_dev", data.gold, "dev", index),
        synthetic_set("synthetic_test", test_pairs, index, column, True).first(limit),
        synthetic_set("synthetic_val", data.val_pairs, index, column, False).first(limit),
    ]
    dropped = data.test_pairs.num_rows - test_pairs.num_rows
    return {questions.name: questions for questions in sets if len(questions)}, dropped


def _choosing_set(sets: dict[str, QuestionSet], settings: Settings) -> QuestionSet:
    gold = sets.get("gold_dev")
    if gold is not None and len(gold) >= settings.evaluation.min_gold:
        return gold
    if "synthetic_val" in sets:
        return sets["synthetic_val"]
    return gold or QuestionSet("none", [], [], [], [], [])


def _retrievers(
    texts: dict[str, str], models: Models, settings: Settings, work: Workspace
) -> list[DenseRetriever]:
    base = Encoder.base(settings.embedder, settings.compute)
    tuned = Encoder.tuned(models.tuned_embedder, settings.embedder, settings.compute)
    _, base_nodes = cached_vectors(work, base, texts, "document")
    _, tuned_nodes = cached_vectors(work, tuned, texts, "document")
    adapter = load_adapter(models.adapter, base.weights.digest)

    def encoding(encoder: Encoder) -> Callable[[Sequence[str]], np.ndarray]:
        return lambda questions: encoder.encode(questions, "query")

    def known(encoder: Encoder) -> Callable[[QuestionSet], np.ndarray]:
        return lambda questions: cached_vectors(work, encoder, questions.by_id(), "query")[1]

    def adapted(questions: Sequence[str]) -> np.ndarray:
        return adapter.queries(base.encode(questions, "query"))

    def known_adapted(questions: QuestionSet) -> np.ndarray:
        return adapter.queries(known(base)(questions))

    return [
        DenseRetriever("base", base_nodes, encoding(base), known(base)),
        DenseRetriever("tuned_embedder", tuned_nodes, encoding(tuned), known(tuned)),
        DenseRetriever("adapter", adapter.documents(base_nodes), adapted, known_adapted),
    ]


def _rerank_all(
    sets: dict[str, QuestionSet],
    choosing: QuestionSet,
    stages: FirstStages,
    weights: dict[str, float],
    scorer: PairScores,
    settings: Settings,
    rows: list[pa.Table],
    node_ids: list[str],
) -> dict[str, float]:
    """Add the reranked hybrids' rows, and return the reranker's weight chosen for each."""
    recipe = settings.evaluation
    hybrids = [hybrid_name(name) for name in weights]
    blends: dict[str, float] = {}
    names = [choosing.name, *(n for n in ("gold_test", "synthetic_test", "gold_dev") if n in sets)]
    for name in dict.fromkeys(name for name in names if name in sets):
        questions = sets[name].first(recipe.max_reranked)
        rankings = stages_subset(stages.rank(sets[name], weights), sets[name], questions)
        scorer.ensure(questions, [rankings[h].nodes[:, : recipe.rerank_depth] for h in hybrids])
        for hybrid in hybrids:
            first, depth = rankings[hybrid], recipe.rerank_depth
            scores = scorer.matrix(questions, first.nodes[:, :depth])
            if name == choosing.name:
                blends[hybrid] = choose_blend(
                    questions, first, scores, recipe.rerank_weights, depth
                )
            mixed = rerank(first, scores, blends.get(hybrid, 0.0), depth)
            alone = rerank(first, scores, 1.0, depth)
            rows.append(_rows(questions, reranked_name(hybrid), mixed, node_ids))
            rows.append(_rows(questions, rerank_alone_name(hybrid), alone, node_ids))
    return blends


def stages_subset(
    rankings: dict[str, Ranking], whole: QuestionSet, part: QuestionSet
) -> dict[str, Ranking]:
    """Return the rankings of a part of a question set."""
    place = {question_id: row for row, question_id in enumerate(whole.ids)}
    rows = [place[question_id] for question_id in part.ids]
    return {n: Ranking(r.nodes[rows], r.scores[rows]) for n, r in rankings.items()}


def _rows(questions: QuestionSet, system: str, ranking: Ranking, node_ids: list[str]) -> pa.Table:
    scores = score_rankings(ranking.nodes, questions.relevant)
    names = np.array(node_ids, dtype=object)
    number = len(questions)
    return pa.table(
        {
            "question_id": questions.ids,
            "question": questions.texts,
            "question_set": [questions.name] * number,
            "system": [system] * number,
            "cluster": questions.clusters,
            "held_out": questions.held_out,
            "relevant": [sorted(node_ids[i] for i in wanted) for wanted in questions.relevant],
            "top_nodes": [names[row].tolist() for row in ranking.nodes[:, :10]],
            "first_rank": scores["first_rank"].astype(int),
            **{metric: scores[metric] for metric in METRICS},
        },
        schema=schemas.EVAL_ROWS.schema,
    )
