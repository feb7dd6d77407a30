"""The datasets: questions, vectors and the teacher's scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.corpus.nodes import READ, node_texts
from ragft_pipeline.digests import digest_of
from ragft_pipeline.identities import SCORING
from ragft_pipeline.lineage.foresight import require_measurable
from ragft_pipeline.lineage.steps import Produced, Recipe, Step
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.questions.intake import intake
from ragft_pipeline.questions.log_parts import TRAIN, log_parts
from ragft_pipeline.questions.pairs import make_qa_pairs
from ragft_pipeline.questions.round_trip import Kept
from ragft_pipeline.recipes.changes import changed_texts, kept_lists, unchanged
from ragft_pipeline.recipes.corpus import SPLITS
from ragft_pipeline.recipes.reading import (
    choosing_look,
    choosing_questions,
    read_nodes,
    read_statistics,
    reading,
    term_statistics,
)
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.text_vectors import EncodedText, units_of
from ragft_pipeline.retrieval.token_rows import encoded_with_tokens
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Artifact
from ragft_pipeline.store.tables import Change, Splice
from ragft_pipeline.tuning.data import Questions, TrainingTables


def _pairs_recipe(split: str) -> Recipe:
    def write(step: Step) -> Produced:
        require_measurable(step.snapshot)
        statistics = term_statistics(step)
        nodes, kept = step.table(f"{split}_nodes"), _kept_ranks(step, f"{split}_nodes")
        made = make_qa_pairs(nodes, statistics, step.settings, step.work, kept)
        facts = {"drafted": made.drafted}
        facts |= {f"filtered_{name}": number for name, number in made.turned_away.items()}
        kinds = made.table.column("kind").to_pylist()
        facts |= {f"kind_{kind}": kinds.count(kind) for kind in sorted(set(kinds))}
        return Produced(made.table, facts)

    return Recipe(
        f"{split}_qa_pairs",
        write,
        code=2,
        inputs=(f"{split}_nodes", "corpus_statistics"),
        sections=("questions", "passages", "embedder"),
        weights=("embedder",),
        calls=(
            "questions.extractive", "questions.llm", "questions.embedded", "retrieval.encoder",
            "retrieval.words",
        ),
        table=schemas.QA_PAIRS,
        heavy=True,
    )  # fmt: skip


def _kept_ranks(step: Step, asset: str) -> Kept | None:
    """Return the round trip's ranks of an earlier version by the same term statistics."""
    changed = changed_texts(step, asset)
    if step.earlier is None or changed is None or not unchanged(step, "corpus_statistics"):
        return None
    return Kept.load(step.earlier.artifact.path, *changed)


def _among(nodes: pa.Table, ids: Collection[str]) -> set[str]:
    """Return which of some nodes stand in a table."""
    column = nodes.column("node_id")
    return set(column.filter(pc.is_in(column, pa.array(ids, pa.string()))).to_pylist())


train_qa_pairs, val_qa_pairs, test_qa_pairs = (_pairs_recipe(split) for split in SPLITS)


def _embed(step: Step) -> Produced:
    encoder = Encoder.base(step.settings.embedder, step.settings.compute)
    change = step.change("chunked_nodes", schemas.NODES)
    if step.earlier is not None and change is not None:
        return _embed_change(step, encoder, step.earlier.artifact, change)
    units = units_of(node_texts(step.table("chunked_nodes", ("node_id", "text"))))
    width = 0
    bits = step.settings.late_interaction.bits
    for rows in encoded_with_tokens(step.work, encoder, units, bits):
        width = len(rows.column("vector")[0])
    ids = [unit.text_id for unit in units]
    return _index(encoder, ids, {"dimension": width}, _index_rows(units))


def _embed_change(step: Step, encoder: Encoder, earlier: Artifact, change: Change) -> Produced:
    units = units_of(node_texts(change.after))
    step.work.inherit(earlier.path)
    for _ in encoded_with_tokens(step.work, encoder, units, step.settings.late_interaction.bits):
        pass
    came = {unit.text_id for unit in units}
    left = set(change.before.column("node_id").to_pylist()) - came
    gone = left - _among(step.table("chunked_nodes", ("node_id",)), left)
    known = earlier.table(columns=("text_id",)).column("text_id").to_pylist()
    ids = sorted(came.union(known) - gone)
    step.work.count("rows_reused", len(ids) - len(came))
    facts = {"dimension": earlier.facts["dimension"]}
    table = step.spliced(pa.array(sorted(came | gone), pa.string()), _index_rows(units))
    return _index(encoder, ids, facts, table)


def _index_rows(units: Sequence[EncodedText]) -> pa.Table:
    return pa.table(
        {"text_id": [u.text_id for u in units], "row_key": [u.row_key for u in units]},
        schema=schemas.NODE_VECTORS.schema,
    )


def _index(
    encoder: Encoder, ids: Sequence[str], facts: dict[str, Any], table: pa.Table | Splice
) -> Produced:
    return Produced(table, facts, made_of=digest_of(ids, encoder.identity("document")))


node_embeddings = Recipe(
    "node_embeddings",
    _embed,
    heavy=True,
    inputs=("chunked_nodes",),
    sections=("embedder", "late_interaction"),
    weights=("embedder",),
    calls=("retrieval.encoder", "retrieval.token_vectors"),
    table=schemas.NODE_VECTORS,
)


TRAINING = ("train_qa_pairs", "val_qa_pairs", "train_nodes", "val_nodes")
PAIRS = tuple(f"{split}_qa_pairs" for split in SPLITS)
LOG = ("log_questions", "log_scores")


def _log(step: Step) -> Produced:
    taken = intake(step.store)
    texts = {row["question_id"]: row["question"] for row in taken.questions}
    gold = step.table("gold_questions", ("question",)).column("question").to_pylist()
    parts = log_parts(texts, gold, taken.keep, step.settings.split.near_duplicate)
    rows = [{**row, "part": parts[row["question_id"]]} for row in taken.questions]
    table = pa.Table.from_pylist(rows, schema=schemas.LOG_QUESTIONS.schema)
    return Produced(table, {f"part_{name}": n for name, n in Counter(parts.values()).items()})


log_questions = Recipe(
    "log_questions",
    _log,
    inputs=("gold_questions",),
    sections=("split",),
    table=schemas.LOG_QUESTIONS,
    identity=lambda snapshot: intake(snapshot.store).digest,
)
"""Its log is that of the last intake, whichever version it is for: people ask, documents do not."""


def training_log(step: Step) -> pa.Table:
    """Return the LOG_QUESTIONS that train."""
    log = step.table("log_questions")
    return log.filter(pc.equal(log.column("part"), TRAIN))


def read_tables(step: Step) -> TrainingTables:
    """Return what a model is trained on, its nodes as models read them."""
    pairs = [step.table(name) for name in TRAINING[:2]]
    return TrainingTables(*pairs, *(read_nodes(step, name) for name in TRAINING[2:]))


def _teach(step: Step) -> Produced:
    from ragft_pipeline.tuning.teacher_weight import WEIGHTS, choose_teacher_weight

    context = reading(step).passages.context == "on"
    weight = choose_teacher_weight(
        step.settings.teacher,
        partial(choosing_questions, step),
        partial(choosing_look, step, "weight", WEIGHTS, context),
    )
    pairs = step.table("train_qa_pairs")
    encoder = Encoder.base(step.settings.embedder, step.settings.compute)
    made_of = digest_of(
        sorted(pairs.column("question_id").to_pylist()),
        *(step.inputs[name].data_version for name in _SEARCHED),
        [encoder.identity(kind) for kind in ("query", "document")],
        step.settings.teacher.digest(),
        step.settings.late_interaction.bits,
        weight.bm25_weight,
        _teacher_model(step.settings),
    )
    scores = _taught(step, pairs, weight.bm25_weight)
    return Produced(scores, asdict(weight), made_of=made_of)


_SEARCHED = ("train_nodes", "passage_context", "corpus_statistics")


def _taught(step: Step, questions: pa.Table, bm25_weight: float) -> pa.Table | Splice:
    """Return the teacher's scores of questions, by way of an earlier version's."""
    from ragft_pipeline.tuning.late_teacher import COUNTS
    from ragft_pipeline.tuning.teacher import judged, teacher_look
    from ragft_pipeline.tuning.teacher_lists import LISTS

    asked, nothing = Questions.from_table(questions), schemas.TEACHER_SCORES.schema.empty_table()
    if not len(asked):
        return nothing
    settings = reading(step)
    kept = kept_lists(step, LISTS, ("train_nodes",), settings.passages.context == "on")
    earlier = step.earlier
    if earlier and kept and kept.stand(asked, [bm25_weight]):
        files = [*kept.files, *(file.name for file in kept.folder.glob(COUNTS))]
        step.work.inherit(earlier.artifact.path, *files)
        return step.spliced(pa.array([], pa.string()), nothing)
    look = teacher_look(
        lambda ids: node_texts(read_nodes(step, "train_nodes", ids, READ)),
        read_statistics(step), bm25_weight, settings, step.work, kept,
    )  # fmt: skip
    lists = look.lists(asked)
    table = judged(look, asked, lists[0])
    look.save(lists)
    if earlier is None or kept is None:
        return table
    groups = _otherwise(earlier.artifact.table(columns=("question_id", "node_ids")), table)
    return step.spliced(groups, table.filter(pc.is_in(table.column("question_id"), groups)))


def _otherwise(before: pa.Table, now: pa.Table) -> pa.Array:
    """Return the questions whose rows may differ: what is in one table alone, or is not null."""
    plain = [
        table.column("question_id").filter(pc.is_null(table.column("node_ids"))).combine_chunks()
        for table in (before, now)
    ]
    same = plain[0].filter(pc.is_in(plain[0], plain[1]))
    every = pa.concat_arrays([t.column("question_id").combine_chunks() for t in (before, now)])
    return pc.unique(every.filter(pc.invert(pc.is_in(every, same))))


def _teacher_model(settings: Settings) -> str:
    model = settings.teacher.model
    return resolve_weights(model).digest if model else ""


def _teach_log(step: Step) -> Produced:
    log = training_log(step)
    if not log.num_rows:  # as ever, where there is no log: nothing downstream is stale
        return Produced(schemas.TEACHER_SCORES.schema.empty_table(), data_version="no log")
    weight = float(step.artifact("teacher_scores").facts["bm25_weight"])
    return Produced(_taught(step, log, weight), data_version=step.action)


log_scores = Recipe(
    "log_scores",
    _teach_log,
    code=5,
    heavy=True,
    inputs=(
        "log_questions", "train_nodes", "passage_context", "corpus_statistics", "teacher_scores",
    ),
    sections=("teacher", "passages", "late_interaction", "embedder"),
    weights=("teacher", "embedder"),
    calls=SCORING,
    table=schemas.TEACHER_SCORES,
)  # fmt: skip


teacher_scores = Recipe(
    "teacher_scores",
    _teach,
    code=6,
    heavy=True,
    inputs=(*TRAINING, "passage_context", "gold_questions", "corpus_statistics"),
    sections=("teacher", "passages", "late_interaction", "embedder"),
    weights=("teacher", "embedder"),
    calls=SCORING,
    table=schemas.TEACHER_SCORES,
)
