"""Training of the router: maps over frozen tool vectors, index kinds, and its thresholds.

The maps are taught as the adapter is, by a softmax over the whole catalog, the teacher's best node
of each document standing for it. Everything else is chosen on people's dev questions about train
and val documents, else on val questions in their own words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.metrics import mean_of, nearest_sufficient, smallest_sufficient
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.routing.asked import Asked, Passages, ndcg, people_asked, synthetic_asked
from ragft_pipeline.routing.catalog import ToolDocument, tool_documents
from ragft_pipeline.routing.index_kinds import KindClassifier
from ragft_pipeline.routing.questions import GAINS
from ragft_pipeline.routing.reordering import (
    Scorers,
    reranked,
    second_opinions,
    tool_scores,
    with_second_opinion,
)
from ragft_pipeline.routing.router import CANDIDATES, Choice, Router, picks, searched_kinds, shares
from ragft_pipeline.routing.tool_index import ToolIndex
from ragft_pipeline.schemas import TEACHER_SCORES
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.data import Questions
from ragft_pipeline.tuning.maps import MapLesson, Maps, fit_maps
from ragft_pipeline.tuning.teacher import TeacherLists

_WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_USUAL_WEIGHT = 0.7
_TEMPERATURES = np.exp(np.linspace(np.log(0.005), np.log(0.5), 60))
_COVERAGES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 1.01)
_FLOORS = (0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.0)
_RERANK_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
_MOST = 1000
RERANKER, LATE_INTERACTION = "reranker", "late_interaction"
_LOADING = """
from ragft_pipeline.routing.reordering import (
    Scorers,
    reranked,
    second_opinions,
    tool_scores,
    with_second_opinion,
)
from ragft_pipeline.routing.router import Router
router = Router.load(THIS_FOLDER, BASE_DIGEST)
"""


@dataclass(frozen=True)
class RouterTables:
    """What a router learns from. Test documents are there to be told apart from, no more.

    Attributes:
        documents: all documents; the maps are taught over the train ones alone.
        nodes: their NODES.
        catalog: TOOL_CATALOG.
        questions: ROUTER_QUESTIONS of train and val.
        train_pairs, val_pairs: QA_PAIRS.
        teacher: TEACHER_SCORES of the train questions.
        gold: GOLD_QUESTIONS; dev questions about train and val documents choose.
    """

    documents: Sequence[ToolDocument]
    nodes: pa.Table
    catalog: pa.Table
    questions: pa.Table
    train_pairs: pa.Table
    val_pairs: pa.Table
    teacher: pa.Table
    gold: pa.Table


def train_router(
    tables: RouterTables, scorers: Scorers, settings: Settings, work: Workspace
) -> dict[str, Any]:
    """Train the router and save it into the workspace's model folder.

    Args:
        scorers: for the best tools' best passages; whether one of them counts is chosen.

    Returns facts: what chose, what was chosen, and recall@1 before and after.
    """
    encoder = Encoder.base(settings.embedder, settings.compute)
    index = ToolIndex.of(
        tables.documents, tables.catalog, settings.router.vectors_per_tool, encoder, work
    )
    passages = Passages.of(tables.documents, encoder, work)
    asked = choosing_questions(tables, passages, encoder, settings, work)
    router, losses = _trained_maps(tables, encoder, settings, work)
    kinds = _kinds(tables, encoder, work)
    router = Router(router.adapter, kinds, router.choice).with_choice(
        vectors_per_tool=settings.router.vectors_per_tool
    )
    router, recall = _chosen_scores(router, index, asked, settings)
    router = _chosen_reranking(router, scorers, index, asked, settings, work)
    scores = reranked(router, scorers, index, asked, work)
    router = _calibrated(router, scores, asked)
    router = _chosen_picks(router, scores, passages, asked, settings)
    router.save(work.model)
    facts = {
        "chosen_on": asked.questions.name,
        "chosen_on_questions": len(asked),
        "tools": len(index),
        "vectors": len(index.vectors),
        "loss_first_epoch": losses[0],
        "loss_last_epoch": losses[-1],
        "kind_temperature": kinds.temperature,
        **recall,
        **vars(router.choice),
    }
    write_card(
        work.model,
        f"Router over {len(index)} documents of {settings.embedder.model}",
        "Picks the documents and the kinds of index that a question is sent to.",
        {"base_digest": encoder.weights.digest, **facts},
        _LOADING,
    )
    return facts


def choosing_questions(
    tables: RouterTables, passages: Passages, encoder: Encoder, settings: Settings, work: Workspace
) -> Asked:
    """Return people's dev questions about train and val documents, else val questions.

    None where there are fewer than `router.min_questions` of either.
    """
    column = passages.column
    seen = tables.gold.filter(pc.not_equal(tables.gold.column("split"), "test"))
    sets = (
        people_asked(seen, "dev", tables.nodes, column, _MOST),
        synthetic_asked("synthetic_val", tables.val_pairs, tables.nodes, column, False, _MOST),
    )
    enough = (one for one in sets if len(one) >= settings.router.min_questions)
    return Asked.of(next(enough, QuestionSet.empty()), passages, encoder, work)


def tool_teacher(teacher: pa.Table, nodes: pa.Table) -> pa.Table:
    """Return TEACHER_SCORES with documents in the place of nodes: each as good as its best node."""
    owners: dict[str, list[str]] = {}
    for node_id, doc_key in zip(*(nodes.column(n).to_pylist() for n in ("node_id", "doc_key"))):
        owners.setdefault(node_id, []).append(doc_key)
    rows = []
    for row in teacher.to_pylist():
        best: dict[str, float] = {}
        for node_id, score in zip(row["node_ids"], row["scores"]):  # best first
            for doc_key in owners[node_id]:
                best.setdefault(doc_key, score)
        rows.append(
            {
                "question_id": row["question_id"],
                "node_ids": list(best),
                "scores": list(best.values()),
            }
        )
    return pa.Table.from_pylist(rows, schema=TEACHER_SCORES.schema)


def _trained_maps(
    tables: RouterTables, encoder: Encoder, settings: Settings, work: Workspace
) -> tuple[Router, list[float]]:
    """Return a router with maps at full strength, taught over the train documents alone."""
    import torch

    nodes = tables.nodes.filter(pc.equal(tables.nodes.column("split"), "train"))
    train = ToolIndex.of(
        tool_documents(nodes), tables.catalog, settings.router.vectors_per_tool, encoder, work
    )
    pairs = tables.train_pairs.sort_by("question_id").slice(0, settings.router.max_questions)
    columns = (pairs.column(name).to_pylist() for name in ("question_id", "question", "doc_key"))
    questions = Questions(*columns)
    kept = pc.is_in(tables.teacher.column("question_id"), pa.array(questions.ids, pa.string()))
    teacher = tool_teacher(tables.teacher.filter(kept), nodes)
    _, queries = cached_vectors(work, encoder, questions.by_id(), "query")
    torch.manual_seed(settings.router.seed)
    recipe = settings.adapter.model_copy(update={"seed": settings.router.seed})
    maps = Maps(recipe, train.vectors.shape[1])
    lists = TeacherLists(teacher, questions, train.doc_keys)
    lesson = MapLesson(queries, train.vectors, lists, train.starts)
    losses = fit_maps(maps, lesson, recipe, "query_router", work.progress)
    nothing = np.zeros((1, 1), np.float32)
    unset = KindClassifier(nothing, nothing)
    choice = Choice(_USUAL_WEIGHT, 1.0, 1.0, settings.router.max_tools, 0.0)
    return Router(maps.adapter(encoder.weights.digest), unset, choice), losses


def _kinds(tables: RouterTables, encoder: Encoder, work: Workspace) -> KindClassifier:
    def part(split: str) -> tuple[np.ndarray, list[str], np.ndarray]:
        rows = tables.questions.filter(pc.equal(tables.questions.column("split"), split))
        asked = dict(zip(*(rows.column(n).to_pylist() for n in ("question_id", "question"))))
        _, queries = cached_vectors(work, encoder, asked, "query")
        gains = np.stack([rows.column(name).to_numpy() for name in GAINS], axis=1)
        return queries, list(asked.values()), gains

    learnt = KindClassifier.fit(*part("train"))
    val = part("val")
    return learnt.calibrated(*val) if len(val[1]) else learnt


def _chosen_scores(
    router: Router, index: ToolIndex, asked: Asked, settings: Settings
) -> tuple[Router, dict[str, float]]:
    """Choose the maps' strength and the weight beside BM25 by the reciprocal rank of the tool."""
    strengths = sorted(set(settings.router.strengths))
    adapters = [router.adapter.shrunk(strength) for strength in strengths]
    if not len(asked):
        return replace(router, adapter=adapters[0]), {"strength": strengths[0]}
    words = index.lexical.scores(asked.questions.texts)

    def found(adapter: Any, weight: float) -> np.ndarray:
        dense = index.dense(adapter.queries(asked.vectors), adapter.documents(index.vectors))
        tried = replace(router, adapter=adapter).with_choice(dense_weight=weight)
        ranks = asked.first_ranks(top_k(tried.scores(dense, words), CANDIDATES))
        return np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0)

    results = [found(adapter, _USUAL_WEIGHT) for adapter in adapters]
    best = smallest_sufficient(strengths, results)
    weighed = [found(adapters[best], weight) for weight in _WEIGHTS]
    weight = nearest_sufficient(_WEIGHTS, weighed, _USUAL_WEIGHT)
    chosen = replace(router, adapter=adapters[best]).with_choice(dense_weight=weight)
    facts = {"strength": strengths[best], "choosing_mrr": mean_of(weighed[_WEIGHTS.index(weight)])}
    if strengths[0] == 0:
        facts["choosing_mrr_untuned"] = mean_of(results[0])
    return chosen, facts


def _chosen_reranking(
    router: Router,
    scorers: Scorers,
    index: ToolIndex,
    asked: Asked,
    settings: Settings,
    work: Workspace,
) -> Router:
    """Choose whose opinion counts among the best tools, and how much; of doubts, nobody's.

    Of several that surely help, the one that gains more. A cross-encoder is asked about the first
    `rerank_questions` only, for it is dear.
    """
    recipe = settings.router
    if not recipe.rerank_depth or not len(asked):
        return router
    gains: dict[tuple[str, float], float] = {}
    for name, scorer in scorers.items():
        part = _first(asked, recipe.rerank_questions if name == RERANKER else _MOST)
        if not len(part):
            continue
        scores = tool_scores(router, index, part)
        best = top_k(scores, recipe.rerank_depth)
        opinions = second_opinions(router, name, scorer, index, part, best, work)
        results = []
        for weight in _RERANK_WEIGHTS:
            mixed = with_second_opinion(scores, best, opinions, weight)
            ranks = part.first_ranks(top_k(mixed, CANDIDATES))
            results.append(np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0))
        place = smallest_sufficient(_RERANK_WEIGHTS, results)
        gain = mean_of(results[place] - results[0])
        gains[name, _RERANK_WEIGHTS[place]] = gain
    if not gains:
        return router
    name, weight = max(gains, key=lambda option: gains[option])
    return router.with_choice(
        rerank_by=name if weight else "", rerank_weight=weight, rerank_depth=recipe.rerank_depth
    )


def _first(asked: Asked, limit: int) -> Asked:
    place = {question_id: row for row, question_id in enumerate(asked.questions.ids)}
    questions = asked.questions.first(limit)
    rows = [place[question_id] for question_id in questions.ids]
    return Asked(questions, asked.vectors[rows], [asked.tools[row] for row in rows])


def _calibrated(router: Router, scores: np.ndarray, asked: Asked) -> Router:
    """Choose the temperature under which the right tools are likeliest."""
    if not len(asked):
        return router.with_choice(temperature=0.05)
    best = top_k(scores, CANDIDATES)
    values = np.take_along_axis(scores, best, axis=1)
    right = np.array([[tool in own for tool in row] for row, own in zip(best, asked.tools)])

    def loss(temperature: float) -> float:
        likely = (shares(values, temperature) * right).sum(axis=1)
        return float(-np.log(np.maximum(likely, 1e-3)).mean())

    return router.with_choice(temperature=min(_TEMPERATURES.tolist(), key=loss))


def _chosen_picks(
    router: Router, scores: np.ndarray, passages: Passages, asked: Asked, settings: Settings
) -> Router:
    """Choose how many tools and which kinds to search: the least that loses at most `max_loss`.

    Kinds first, on all tools that may be picked; then the coverage, abstaining included.
    """
    recipe = settings.router
    if not len(asked):
        return router.with_choice(coverage=_COVERAGES[-1])
    dense = asked.vectors @ passages.vectors.T
    words = passages.lexical.scores(asked.questions.texts)
    whole = ndcg(list(passages.search_all(dense, words)), asked.questions)
    best, confidences = router.confidences(scores)
    kind_shares = router.kinds.shares(asked.vectors, asked.questions.texts)

    def within(picked: np.ndarray, floor: float) -> np.ndarray:
        return ndcg(
            [
                passages.search_within(
                    dense[row],
                    words[row],
                    best[row, : picked[row]].tolist(),
                    searched_kinds(kind_shares[row], floor),
                )
                for row in range(len(asked))
            ],
            asked.questions,
        )

    most = np.full(len(asked), min(recipe.max_tools, best.shape[1]))
    every_kind = within(most, 0.0)
    floor = _least(_FLOORS, lambda value: every_kind - within(most, value), recipe.max_loss / 2)

    def lost(coverage: float) -> np.ndarray:
        picked, abstained = picks(confidences, coverage, recipe.max_tools)
        return np.asarray(whole - np.where(abstained, whole, within(picked, floor)))

    coverage = _least(_COVERAGES, lost, recipe.max_loss)
    return router.with_choice(coverage=coverage, kind_floor=floor)


def _least(values: Sequence[float], lost: Callable[[float], np.ndarray], limit: float) -> float:
    """Return the first value from which on every one surely costs at most `limit`.

    Args:
        values: the boldest first; the last one costs nothing.
        lost: what a value costs on each question. It surely costs at most the limit where the
            upper end of its 95% interval does.
    """
    chosen = values[-1]
    for value in reversed(values):
        losses = lost(value)
        error = losses.std(ddof=1) / np.sqrt(len(losses)) if len(losses) > 1 else 0.0
        if mean_of(losses) + 1.96 * float(error) > limit:
            break
        chosen = value
    return chosen
