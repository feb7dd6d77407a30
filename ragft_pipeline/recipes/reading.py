"""How passages are read: with or without what stands above them, decided once for a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from ragft_pipeline.corpus.nodes import READ, anything_above, named, node_texts, with_context
from ragft_pipeline.lineage.steps import Produced, Recipe, Step
from ragft_pipeline.recipes.changes import kept_lists
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.retrieval.search import MIDDLE
from ragft_pipeline.settings import Settings
from ragft_pipeline.store.tables import read_table

if TYPE_CHECKING:
    from ragft_pipeline.tuning.choosing_questions import ChoosingQuestions
    from ragft_pipeline.tuning.followed_lists import FirstLook

_CHOOSING = ("train_nodes", "val_nodes")


def _choose(step: Step) -> Produced:
    from ragft_pipeline.tuning.passage_context import ContextChoice, choose_context

    given = step.settings.passages.context
    if given != "auto":
        return Produced(facts=asdict(ContextChoice(given, "settings")), data_version=given)
    above = any(anything_above(step.artifact(name).reader()) for name in _CHOOSING)
    choice = choose_context(above, partial(choosing_questions, step), partial(_context_look, step))
    return Produced(facts=asdict(choice), data_version=choice.context)


def _context_look(step: Step, context: bool) -> FirstLook:
    return choosing_look(step, "with_context" if context else "without", [MIDDLE], context)


def choosing_questions(step: Step) -> ChoosingQuestions:
    """Return what chooses how passages are read and taught."""
    from ragft_pipeline.tuning.choosing_questions import ChoosingQuestions

    columns = ("node_id", "doc_key", "start_char", "end_char")
    places = pa.concat_tables([step.table(name, columns) for name in _CHOOSING])
    gold, pairs = step.table("gold_questions"), step.table("val_qa_pairs")
    return ChoosingQuestions.of(gold, pairs, places)


def choosing_look(
    step: Step, title: str, bm25_weights: Sequence[float], context: bool
) -> FirstLook:
    """Return a look at the nodes of train and val, by way of an earlier version's."""
    from ragft_pipeline.tuning.choosing_questions import DEPTH
    from ragft_pipeline.tuning.followed_lists import FirstLook

    def read(ids: Sequence[str] | None) -> dict[str, str]:
        nodes = named(pa.concat_tables([step.table(name, READ) for name in _CHOOSING]), ids)
        return node_texts(with_context(nodes) if context else nodes)

    statistics = term_statistics(step, context)
    kept = kept_lists(step, title, _CHOOSING, context)
    settings, work = step.settings, step.work
    return FirstLook(read, statistics, bm25_weights, DEPTH, settings, work, title, kept)


passage_context = Recipe(
    "passage_context",
    _choose,
    code=3,
    heavy=True,
    inputs=("train_nodes", "val_nodes", "val_qa_pairs", "gold_questions", "corpus_statistics"),
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


def read_nodes(
    step: Step,
    asset: str,
    ids: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Return a NODES table, or some nodes of it, with the texts that models and BM25 read.

    Args:
        columns: those that are read; `READ` says which it takes.
    """
    nodes = named(step.table(asset, columns), ids)
    return with_context(nodes) if reading(step).passages.context == "on" else nodes


def read_statistics(step: Step) -> TermStatistics:
    """Return the term statistics in force, of passages as they are read."""
    return term_statistics(step, reading(step).passages.context == "on")


def term_statistics(step: Step, context: bool = False) -> TermStatistics:
    """Return the term statistics in force, of passages alone or below their headings."""
    return _statistics(step.artifact("corpus_statistics").table_path(), context)


@lru_cache(maxsize=2)  # most assets of a version read them
def _statistics(table: Path, context: bool) -> TermStatistics:
    return TermStatistics.from_table(read_table(table), context)


def read_scores(step: Step, asset: str) -> pa.Table:
    """Return the TEACHER_SCORES of an asset, whole."""
    from ragft_pipeline.tuning.teacher_lists import read_scores as whole

    return whole(step.artifact(asset))
