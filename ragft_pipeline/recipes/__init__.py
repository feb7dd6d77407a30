"""Every asset as plain Python: what it reads, what it calls, what it returns.

`ragft_pipeline.defs` turns these into Dagster assets; a notebook can run them with
`steps.materialize`.
"""

from __future__ import annotations

from importlib.util import find_spec

from ragft_pipeline.lineage.steps import Recipe
from ragft_pipeline.recipes.answering import (
    answering_report,
    llm_eval,
    test_chats,
    train_chats,
    tuned_llm,
    val_chats,
)
from ragft_pipeline.recipes.corpus import (
    SPLITS,
    chunked_nodes,
    corpus_snapshot,
    corpus_statistics,
    gold_questions,
    test_nodes,
    train_nodes,
    val_nodes,
)
from ragft_pipeline.recipes.datasets import (
    log_questions,
    log_scores,
    node_embeddings,
    teacher_scores,
    test_qa_pairs,
    train_qa_pairs,
    val_qa_pairs,
)
from ragft_pipeline.recipes.evaluation import (
    eval_report,
    released_models,
    retrieval_eval,
)
from ragft_pipeline.recipes.models import (
    embedding_adapter,
    late_interaction,
    reranker,
    stacked_adapter,
    tuned_embedder,
)
from ragft_pipeline.recipes.reading import passage_context
from ragft_pipeline.recipes.release import (
    champion,
    published_index,
    refit_models,
)
from ragft_pipeline.recipes.routing import (
    query_router,
    router_eval,
    router_questions,
    tool_catalog,
)

ANSWERING: tuple[Recipe, ...] = (
    train_chats,
    val_chats,
    test_chats,
    tuned_llm,
    llm_eval,
    answering_report,
)
ANSWERING_IS_HERE = all(map(find_spec, ("gguf", "peft", "trl")))  # the extra `answering`
RECIPES: tuple[Recipe, ...] = (
    corpus_snapshot,
    chunked_nodes,
    train_nodes,
    val_nodes,
    test_nodes,
    gold_questions,
    corpus_statistics,
    train_qa_pairs,
    val_qa_pairs,
    test_qa_pairs,
    passage_context,
    node_embeddings,
    teacher_scores,
    log_questions,
    log_scores,
    tool_catalog,
    router_questions,
    tuned_embedder,
    stacked_adapter,
    embedding_adapter,
    late_interaction,
    reranker,
    query_router,
    refit_models,
    retrieval_eval,
    router_eval,
    eval_report,
    champion,
    published_index,
    *(ANSWERING if ANSWERING_IS_HERE else ()),
)

__all__ = [
    "ANSWERING",
    "ANSWERING_IS_HERE",
    "RECIPES",
    "SPLITS",
    "answering_report",
    "champion",
    "chunked_nodes",
    "corpus_snapshot",
    "corpus_statistics",
    "embedding_adapter",
    "eval_report",
    "gold_questions",
    "late_interaction",
    "llm_eval",
    "log_questions",
    "log_scores",
    "node_embeddings",
    "passage_context",
    "published_index",
    "query_router",
    "refit_models",
    "released_models",
    "reranker",
    "retrieval_eval",
    "router_eval",
    "router_questions",
    "stacked_adapter",
    "teacher_scores",
    "test_chats",
    "test_nodes",
    "test_qa_pairs",
    "tool_catalog",
    "train_chats",
    "train_nodes",
    "train_qa_pairs",
    "tuned_embedder",
    "tuned_llm",
    "val_chats",
    "val_nodes",
    "val_qa_pairs",
]
