"""Routing: the corpus's tools, the questions a router learns from, the router, its evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.identities import SCORING
from ragft_pipeline.lineage.steps import Produced, Recipe, Step
from ragft_pipeline.lineage.taint import record_documents
from ragft_pipeline.recipes.corpus import SPLITS
from ragft_pipeline.recipes.datasets import PAIRS
from ragft_pipeline.recipes.models import require_questions, scorer_folders
from ragft_pipeline.recipes.reading import read_nodes, read_scores, term_statistics
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.question_sets import unseen
from ragft_pipeline.routing.catalog import (
    make_catalog,
    tool_documents,
    write_summaries,
)

if TYPE_CHECKING:
    from ragft_pipeline.routing.reordering import Scorers
    from ragft_pipeline.settings import LLMGenerator, Settings


def _catalog(step: Step) -> Produced:

    rows = step.table("corpus_snapshot").sort_by("path").to_pylist()
    documents = tool_documents(
        step.table("chunked_nodes"), {row["doc_key"]: row["path"] for row in reversed(rows)}
    )
    statistics = term_statistics(step)
    summaries: dict[str, str] = {}
    generator = _summary_model(step.settings)
    if generator is not None:
        from ragft_pipeline.questions.llm import open_model

        model = open_model(generator, step.settings.compute)
        identity = digest_of(generator.model, generator.base_url)
        summaries = write_summaries(documents, model, identity, step.work)
    table = make_catalog(documents, statistics, summaries, step.work)
    if failures := step.work.counts.get("llm_failures"):
        raise TransientError(
            f"tool_catalog: {failures} documents got no summary; the others' are kept: run again, "
            "or set router.summaries: false"
        )
    return Produced(table)


def _summary_model(settings: Settings) -> LLMGenerator | None:
    from ragft_pipeline.settings import LLMGenerator

    if not settings.router.summaries:
        return None
    models = (g for g in settings.questions.generators if isinstance(g, LLMGenerator))
    served = [model for model in models if model.base_url is not None]
    if not served:
        raise RagftError("router.summaries: no llm of questions.generators has a base_url")
    return served[0]


tool_catalog = Recipe(
    "tool_catalog",
    _catalog,
    heavy=True,
    inputs=("corpus_snapshot", "chunked_nodes", "corpus_statistics"),
    sections=("router", "questions"),
    calls=(
        "routing.catalog",
        "questions.llm",
        "questions.embedded",
        "questions.replies",
        "retrieval.words",
    ),
    table=schemas.TOOL_CATALOG,
)


def _questions(step: Step) -> Produced:
    from ragft_pipeline.routing.questions import (
        KindSearch,
        router_questions_table,
        typed_questions,
    )

    encoder = Encoder.base(step.settings.embedder, step.settings.compute)
    catalog, documents = (
        step.table("tool_catalog"),
        tool_documents(read_nodes(step, "chunked_nodes")),
    )
    most, parts = step.settings.router.max_questions, []
    for place, split in enumerate(SPLITS):
        known = [one for one in documents if one.split in SPLITS[: place + 1]]
        own = [one for one in documents if one.split == split]
        rows = typed_questions(own, step.table(f"{split}_qa_pairs"), split, most)
        search = KindSearch.of(known, catalog, encoder, step.work)
        parts.append(router_questions_table(rows, search.gains(rows, encoder, step.work)))
    return Produced(pa.concat_tables(parts))


router_questions = Recipe(
    "router_questions",
    _questions,
    heavy=True,
    inputs=("chunked_nodes", "passage_context", "tool_catalog", *PAIRS),
    sections=("router", "embedder"),
    weights=("embedder",),
    calls=("retrieval.encoder", "retrieval.words", "routing.catalog"),
    table=schemas.ROUTER_QUESTIONS,
)


def _scorers(step: Step) -> Scorers:
    from ragft_pipeline.retrieval.late_interaction import LateInteraction
    from ragft_pipeline.retrieval.reranking import PairScorer, Reranker
    from ragft_pipeline.retrieval.token_rows import CachedTokens
    from ragft_pipeline.routing.choosing import LATE_INTERACTION, RERANKER

    settings, folders = step.settings, scorer_folders(step)
    encoder = Encoder.base(settings.embedder, settings.compute)
    stored = CachedTokens(step.work, encoder, settings.late_interaction.bits)
    late = folders[LATE_INTERACTION]
    scorers: dict[str, PairScorer] = {
        LATE_INTERACTION: LateInteraction.load(late, settings.embedder, settings.compute, stored)
    }
    if RERANKER in folders:
        scorers[RERANKER] = Reranker(folders[RERANKER], settings.reranker, settings.compute)
    return scorers


def _train(step: Step) -> Produced:
    from ragft_pipeline.routing.training import RouterTables, train_router

    require_questions(step)
    seen = SPLITS[:2]
    questions = step.table("router_questions")
    tables = RouterTables(
        tool_documents(read_nodes(step, "chunked_nodes")),
        step.table("chunked_nodes"),
        step.table("tool_catalog"),
        questions.filter(pc.is_in(questions.column("split"), value_set=pa.array(seen))),
        step.table("train_qa_pairs"),
        step.table("val_qa_pairs"),
        read_scores(step, "teacher_scores"),
        step.table("gold_questions"),
    )
    facts = train_router(tables, _scorers(step), step.settings, step.work)
    nodes = step.table("chunked_nodes")
    record_documents(
        step.work.model,
        nodes.filter(pc.is_in(nodes.column("split"), value_set=pa.array(seen))),
    )
    return Produced(facts=facts)


query_router = Recipe(
    "query_router",
    _train,
    heavy=True,
    inputs=(
        "chunked_nodes", "tool_catalog", "router_questions", "train_qa_pairs",
        "val_qa_pairs", "teacher_scores", "gold_questions", "reranker",
        "late_interaction", "passage_context",
    ),
    sections=("router", "adapter", "reranker", "late_interaction", "embedder"),
    weights=("embedder",),
    code=2,
    calls=(*SCORING, "routing.catalog"),
)  # fmt: skip


def _evaluate(step: Step) -> Produced:
    from ragft_pipeline.routing.evaluation import RoutingData, evaluate_routing
    from ragft_pipeline.routing.report import write_routing_report
    from ragft_pipeline.routing.router import Router

    questions = step.table("router_questions")
    data = RoutingData(
        tool_documents(read_nodes(step, "chunked_nodes")),
        step.table("chunked_nodes"),
        step.table("tool_catalog"),
        questions.filter(pc.equal(questions.column("split"), "test")),
        unseen(step.table("test_qa_pairs"), step.table("train_qa_pairs")),
        step.table("gold_questions"),
    )
    encoder = Encoder.base(step.settings.embedder, step.settings.compute)
    router = Router.load(step.artifact("query_router").model, encoder.weights.digest)
    rows = evaluate_routing(data, router, _scorers(step), step.settings, step.work)
    return Produced(rows, write_routing_report(rows, step.settings, step.version, step.work))


router_eval = Recipe(
    "router_eval",
    _evaluate,
    heavy=True,
    inputs=(
        "chunked_nodes", "tool_catalog", "router_questions", "train_qa_pairs",
        "test_qa_pairs", "gold_questions", "query_router", "reranker",
        "late_interaction", "passage_context",
    ),
    sections=("router", "reranker", "late_interaction", "evaluation", "gate", "embedder"),
    weights=("embedder",),
    code=3,
    calls=(*SCORING, "routing.catalog"),
    table=schemas.ROUTER_EVAL,
)  # fmt: skip
