"""How passages are read: with or without what stands above them, decided once for a corpus."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa

from ragft_pipeline.corpus.nodes import with_context
from ragft_pipeline.lineage.steps import Produced, Recipe, Step
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.settings import Settings


def _choose(step: Step) -> Produced:
    from ragft_pipeline.tuning.passage_context import choose_context

    nodes = pa.concat_tables([step.table("train_nodes"), step.table("val_nodes")])
    gold, val_pairs = step.table("gold_questions"), step.table("val_qa_pairs")
    choice = choose_context(nodes, gold, val_pairs, step.settings, step.work)
    return Produced(facts=asdict(choice), data_version=choice.context)


passage_context = Recipe(
    "passage_context",
    _choose,
    code=2,
    heavy=True,
    inputs=("train_nodes", "val_nodes", "val_qa_pairs", "gold_questions"),
    sections=("passages", "late_interaction", "embedder"),
    weights=("embedder",),
    calls=("retrieval.encoder", "retrieval.token_vectors", "retrieval.words"),
)
"""Its data version is the choice: what reads it becomes stale where that changes."""


def reading(step: Step) -> Settings:
    """Return the settings with `passages.context` decided: on or off."""
    context = str(step.artifact("passage_context").facts["context"])
    passages = step.settings.passages.model_copy(update={"context": context})
    return step.settings.model_copy(update={"passages": passages})


def read_nodes(step: Step, asset: str) -> pa.Table:
    """Return a NODES table with the texts that models and BM25 read."""
    nodes = step.table(asset)
    return with_context(nodes) if reading(step).passages.context == "on" else nodes


def read_statistics(step: Step) -> TermStatistics:
    """Return the term statistics in force, of passages as they are read."""
    context = reading(step).passages.context == "on"
    return TermStatistics.from_table(step.table("corpus_statistics"), context)


def read_scores(step: Step, asset: str) -> pa.Table:
    """Return the TEACHER_SCORES of an asset, whole."""
    from ragft_pipeline.tuning.teacher_lists import read_scores as whole

    return whole(step.artifact(asset))
