"""Training of the router: maps over frozen tool vectors, index kinds, and its thresholds.

The maps are taught as the adapter is, by a softmax over the whole catalog, the teacher's best node
of each document standing for it. Everything else is chosen on people's questions, and for each fold
of them on the others'; where people ask too little, on val questions in their own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.folds import folds_of
from ragft_pipeline.retrieval.question_sets import PEOPLE, questions_that_choose
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.routing.asked import Asked, Passages
from ragft_pipeline.routing.catalog import ToolDocument, tool_documents
from ragft_pipeline.routing.choosing import USUAL_WEIGHT, Choosing
from ragft_pipeline.routing.index_kinds import KindClassifier
from ragft_pipeline.routing.questions import GAINS
from ragft_pipeline.routing.reordering import Scorers
from ragft_pipeline.routing.router import Choice, Router
from ragft_pipeline.routing.tool_index import ToolIndex
from ragft_pipeline.schemas import TEACHER_SCORES
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.data import Questions
from ragft_pipeline.tuning.maps import MapLesson, Maps, fit_maps
from ragft_pipeline.tuning.teacher import TeacherLists

_LOADING = """
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
        gold: GOLD_QUESTIONS.
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

    Returns facts: what chose, what was chosen, and the right tools' mean reciprocal rank before
    and after.
    """
    encoder = Encoder.base(settings.embedder, settings.compute)
    index = ToolIndex.of(
        tables.documents, tables.catalog, settings.router.vectors_per_tool, encoder, work
    )
    passages = Passages.of(tables.documents, encoder, work)
    questions = questions_that_choose(
        tables.gold, tables.val_pairs, tables.nodes, passages.column,
        settings.router.min_questions, held_out=True,
    )  # fmt: skip
    asked = Asked.of(questions, passages, encoder, work)
    router, losses = _trained_maps(tables, encoder, settings, work)
    router = replace(router, kinds=_kinds(tables, encoder, work)).with_choice(
        vectors_per_tool=settings.router.vectors_per_tool
    )
    choosing = Choosing(router, scorers, index, passages, asked, settings, work)
    chosen = choosing.choice(np.ones(len(asked), bool))
    ranks = {}
    if len(asked):
        ranks["choosing_mrr"] = choosing.reciprocal_rank(chosen)
        plain = replace(chosen, strength=0.0, dense_weight=USUAL_WEIGHT)
        ranks["choosing_mrr_untuned"] = choosing.reciprocal_rank(plain)
    folds = folds_of(questions.clusters if questions.name == PEOPLE else [])
    others = {str(fold): choosing.choice(folds != fold) for fold in np.unique(folds).tolist()}
    router = replace(router, choice=chosen, folds=others)
    router.save(work.model)
    facts = {
        "chosen_on": asked.questions.name,
        "chosen_on_questions": len(asked),
        "tools": len(index),
        "vectors": len(index.vectors),
        "loss_first_epoch": losses[0],
        "loss_last_epoch": losses[-1],
        "kind_temperature": router.kinds.temperature,
        **ranks,
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
    maps = Maps(recipe, train.vectors.shape[1], encoder.device)
    lists = TeacherLists(teacher, questions, train.doc_keys)
    lesson = MapLesson(queries, train.vectors, lists, train.starts)
    losses = fit_maps(maps, lesson, recipe, "query_router", work.progress)
    nothing = np.zeros((1, 1), np.float32)
    unset = KindClassifier(nothing, nothing)
    choice = Choice(USUAL_WEIGHT, 1.0, 1.0, settings.router.max_tools, 0.0)
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
