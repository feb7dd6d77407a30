"""Every asset as plain Python: what it reads, what it calls, what it returns.

`ragft_pipeline.defs` turns these into Dagster assets; a notebook can run them with
`steps.materialize`.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.corpus.chunking import CHUNKER_VERSION, FrozenDocument, chunk_documents
from ragft_pipeline.corpus.gold import read_gold_questions
from ragft_pipeline.corpus.readers import MARKDOWN_SUFFIXES
from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.embedded import EMBEDDED_VERSION
from ragft_pipeline.questions.extractive import EXTRACTIVE_VERSION
from ragft_pipeline.questions.llm import PROMPT_VERSION
from ragft_pipeline.questions.pairs import make_qa_pairs
from ragft_pipeline.retraining import decide, record_training
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors, vectors_table
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.steps import Decision, Produced, Recipe, Step
from ragft_pipeline.store import Artifact, digest_of
from ragft_pipeline.taint import record_documents
from ragft_pipeline.tuning.data import TrainingTables, node_texts
from ragft_pipeline.weights import require_embedder, resolve_weights

if TYPE_CHECKING:
    from ragft_pipeline.corpus.snapshots import Snapshot
    from ragft_pipeline.evaluation.retrieval_eval import EvaluationData
    from ragft_pipeline.evaluation.trial import Models
    from ragft_pipeline.settings import Settings

SPLITS = ("train", "val", "test")


def _snapshot(step: Step) -> Produced:
    facts = {name: step.snapshot.facts[name] for name in ("documents", "skipped", "characters")}
    return Produced(
        step.snapshot.table(schemas.DOCUMENTS), facts, data_version=step.snapshot.data_version
    )


corpus_snapshot = Recipe(
    "corpus_snapshot",
    _snapshot,
    table=schemas.DOCUMENTS,
    identity=lambda snapshot: snapshot.data_version,
)


def frozen_documents(step: Step, version: str) -> list[FrozenDocument]:
    """Return a version's documents, one entry a distinct text."""
    rows = step.snapshots.load(version).table(schemas.DOCUMENTS).sort_by("path").to_pylist()
    documents = {
        row["doc_key"]: FrozenDocument(
            row["doc_key"],
            row["markdown"],
            row["title"],
            row["cluster"],
            row["split"],
            partial(step.snapshots.text, row["doc_key"]),
        )
        for row in reversed(rows)
    }
    return [documents[key] for key in sorted(documents)]


def guarded_documents(step: Step, version: str) -> list[FrozenDocument]:
    """Return the val and test documents of earlier versions that a version no longer has."""
    snapshot = step.snapshots.load(version)
    present = set(snapshot.table(schemas.DOCUMENTS).column("doc_key").to_pylist())
    return [
        FrozenDocument(
            row["doc_key"],
            row["path"].lower().endswith(MARKDOWN_SUFFIXES),
            "",
            row["cluster"],
            row["split"],
            partial(step.snapshots.text, row["doc_key"]),
        )
        for row in snapshot.table(schemas.LEDGER).to_pylist()
        if row["split"] != "train" and row["doc_key"] not in present
    ]


def cut_version(step: Step, version: str) -> pa.Table:
    """Return the NODES table of any frozen version."""
    return chunk_documents(
        frozen_documents(step, version),
        guarded_documents(step, version),
        step.settings.chunking,
        require_embedder(resolve_weights(step.settings.embedder.model)),
        step.work,
    )


chunked_nodes = Recipe(
    "chunked_nodes",
    lambda step: Produced(cut_version(step, step.version)),
    inputs=("corpus_snapshot",),
    sections=("chunking", "embedder"),
    weights=("embedder",),
    versions=(CHUNKER_VERSION,),
    table=schemas.NODES,
    identity=lambda snapshot: snapshot.guard,
)


def _split_recipe(split: str) -> Recipe:
    def select(step: Step) -> Produced:
        nodes = step.table("chunked_nodes")
        return Produced(nodes.filter(pc.equal(nodes.column("split"), split)))

    return Recipe(f"{split}_nodes", select, inputs=("chunked_nodes",), table=schemas.NODES)


train_nodes, val_nodes, test_nodes = (_split_recipe(split) for split in SPLITS)


def _gold(step: Step) -> Produced:
    table, left_out = read_gold_questions(
        step.snapshot.gold_text, step.table("corpus_snapshot"), step.snapshots.text
    )
    return Produced(table, {f"left_out_{reason}": n for reason, n in left_out.items()})


gold_questions = Recipe(
    "gold_questions", _gold, inputs=("corpus_snapshot",), table=schemas.GOLD_QUESTIONS
)


def _statistics(step: Step) -> Produced:
    """Count the train nodes of the version whose statistics are in force."""
    anchor = str(step.snapshot.facts["statistics_version"])
    nodes = cut_version(step, anchor)
    texts = node_texts(nodes.filter(pc.equal(nodes.column("split"), "train")))
    return Produced(TermStatistics.of(list(texts.values())).to_table(), {"statistics_of": anchor})


corpus_statistics = Recipe(
    "corpus_statistics",
    _statistics,
    inputs=("train_nodes",),
    sections=("chunking", "embedder"),
    weights=("embedder",),
    versions=(CHUNKER_VERSION,),
    table=schemas.CORPUS_STATISTICS,
    identity=lambda snapshot: str(snapshot.facts["statistics_version"]),
)


def _pairs_recipe(split: str) -> Recipe:
    def write(step: Step) -> Produced:
        statistics = TermStatistics.from_table(step.table("corpus_statistics"))
        made = make_qa_pairs(step.table(f"{split}_nodes"), statistics, step.settings, step.work)
        facts = {"drafted": made.drafted}
        facts |= {f"filtered_{name}": number for name, number in made.turned_away.items()}
        kinds = made.table.column("kind").to_pylist()
        facts |= {f"kind_{kind}": kinds.count(kind) for kind in sorted(set(kinds))}
        return Produced(made.table, facts)

    return Recipe(
        f"{split}_qa_pairs",
        write,
        inputs=(f"{split}_nodes", "corpus_statistics"),
        sections=("questions", "embedder"),
        weights=("embedder",),
        versions=(EXTRACTIVE_VERSION, PROMPT_VERSION, EMBEDDED_VERSION),
        table=schemas.QA_PAIRS,
        heavy=True,
    )


train_qa_pairs, val_qa_pairs, test_qa_pairs = (_pairs_recipe(split) for split in SPLITS)


def _embed(step: Step) -> Produced:
    encoder = Encoder.base(step.settings.embedder, step.settings.compute)
    texts = node_texts(step.table("chunked_nodes"))
    ids, vectors = cached_vectors(step.work, encoder, texts, "document")
    made_of = digest_of(ids, encoder.identity("document"))
    facts = {"dimension": int(vectors.shape[1])}
    return Produced(vectors_table(ids, ids, vectors), facts, data_version=made_of)


node_embeddings = Recipe(
    "node_embeddings",
    _embed,
    heavy=True,
    inputs=("chunked_nodes",),
    sections=("embedder",),
    weights=("embedder",),
    table=schemas.VECTORS,
)


_TRAINING = ("train_qa_pairs", "val_qa_pairs", "train_nodes", "val_nodes")


def _teach(step: Step) -> Produced:
    from ragft_pipeline.tuning.teacher import score_with_teacher
    from ragft_pipeline.tuning.teacher_weight import choose_teacher_weight

    statistics = TermStatistics.from_table(step.table("corpus_statistics"))
    tables = TrainingTables(*(step.table(name) for name in _TRAINING))
    pairs, nodes = tables.train_pairs, tables.train_nodes
    gold = step.table("gold_questions")
    weight = choose_teacher_weight(tables, gold, statistics, step.settings, step.work)
    scores = score_with_teacher(
        pairs, nodes, statistics, weight.bm25_weight, step.settings, step.work
    )
    ids = [sorted(t.column(c).to_pylist()) for t, c in ((pairs, "question_id"), (nodes, "node_id"))]
    encoder = Encoder.base(step.settings.embedder, step.settings.compute)
    made_of = digest_of(
        ids,
        step.artifact("corpus_statistics").data_version,
        [encoder.identity(kind) for kind in ("query", "document")],
        step.settings.teacher.digest(),
        weight.bm25_weight,
        _teacher_model(step.settings),
    )
    return Produced(scores, asdict(weight), data_version=made_of)


def _teacher_model(settings: Settings) -> str:
    model = settings.teacher.model
    return resolve_weights(model).digest if model else ""


teacher_scores = Recipe(
    "teacher_scores",
    _teach,
    heavy=True,
    inputs=(*_TRAINING, "gold_questions", "corpus_statistics"),
    sections=("teacher", "embedder"),
    weights=("teacher", "embedder"),
    table=schemas.TEACHER_SCORES,
)


def _training_tables(step: Step) -> TrainingTables:
    if not step.table("train_qa_pairs").num_rows:
        raise RagftError(
            f"{step.work.asset}: there are no training questions for {step.version}; "
            "add documents or loosen questions.* in ragft.yaml"
        )
    return TrainingTables(*(step.table(name) for name in _TRAINING))


def _trained(step: Step, tables: TrainingTables, facts: dict[str, Any]) -> Produced:
    record_training(step.work.folder, tables)
    return Produced(facts=facts)


def _keep(step: Step, model: Artifact) -> Decision:
    from ragft_pipeline.tuning.drift import JUDGES

    return decide(step, model, _training_tables(step), JUDGES[model.asset])


def _adapter(step: Step) -> Produced:
    from ragft_pipeline.tuning.adapter import train_adapter

    tables = _training_tables(step)
    encoder = Encoder.base(step.settings.embedder, step.settings.compute)
    teacher = step.table("teacher_scores")
    return _trained(step, tables, train_adapter(tables, teacher, encoder, step.settings, step.work))


embedding_adapter = Recipe(
    "embedding_adapter",
    _adapter,
    heavy=True,
    keep=_keep,
    inputs=(*_TRAINING, "teacher_scores"),
    sections=("adapter", "embedder"),
    weights=("embedder",),
)


def _tuned_embedder(step: Step) -> Produced:
    from ragft_pipeline.tuning.embedder import train_embedder

    tables = _training_tables(step)
    facts = train_embedder(tables, step.table("teacher_scores"), step.settings, step.work)
    return _trained(step, tables, facts)


tuned_embedder = Recipe(
    "tuned_embedder",
    _tuned_embedder,
    heavy=True,
    keep=_keep,
    inputs=(*_TRAINING, "teacher_scores"),
    sections=("tuned_embedder", "embedder"),
    weights=("embedder",),
)


def _tuned_encoder(step: Step) -> Encoder:
    folder = step.artifact("tuned_embedder").model
    return Encoder.tuned(folder, step.settings.embedder, step.settings.compute)


def _stacked_adapter(step: Step) -> Produced:
    from ragft_pipeline.tuning.adapter import train_adapter

    tables, teacher = _training_tables(step), step.table("teacher_scores")
    facts = train_adapter(tables, teacher, _tuned_encoder(step), step.settings, step.work)
    return _trained(step, tables, facts)


stacked_adapter = Recipe(
    "stacked_adapter",
    _stacked_adapter,
    heavy=True,
    inputs=(*_TRAINING, "teacher_scores", "tuned_embedder"),
    sections=("adapter", "embedder"),
    weights=("embedder",),
)


def _reranker(step: Step) -> Produced:
    from ragft_pipeline.tuning.reranker import train_reranker

    statistics = TermStatistics.from_table(step.table("corpus_statistics"))
    tables, teacher = _training_tables(step), step.table("teacher_scores")
    facts = train_reranker(tables, teacher, statistics, step.settings, step.work)
    return _trained(step, tables, facts)


reranker = Recipe(
    "reranker",
    _reranker,
    heavy=True,
    keep=_keep,
    inputs=(*_TRAINING, "teacher_scores", "corpus_statistics"),
    sections=("reranker", "embedder"),
    weights=("reranker", "embedder"),
)


def _late_interaction(step: Step) -> Produced:
    from ragft_pipeline.tuning.late_interaction import tune_late_interaction

    statistics = TermStatistics.from_table(step.table("corpus_statistics"))
    tables, teacher = _training_tables(step), step.table("teacher_scores")
    facts = tune_late_interaction(tables, teacher, statistics, step.settings, step.work)
    return _trained(step, tables, facts)


late_interaction = Recipe(
    "late_interaction",
    _late_interaction,
    heavy=True,
    inputs=(*_TRAINING, "teacher_scores", "corpus_statistics"),
    sections=("late_interaction", "embedder"),
    weights=("embedder",),
)


def _evaluation_data(step: Step) -> EvaluationData:
    from ragft_pipeline.evaluation.retrieval_eval import EvaluationData

    return EvaluationData(
        nodes=step.table("chunked_nodes"),
        train_pairs=step.table("train_qa_pairs"),
        val_pairs=step.table("val_qa_pairs"),
        test_pairs=step.table("test_qa_pairs"),
        gold=step.table("gold_questions"),
    )


def _measured_models(step: Step) -> Models:
    from ragft_pipeline.evaluation.trial import Models

    return Models(
        tuned_embedder=step.artifact("tuned_embedder").model,
        adapter=step.artifact("embedding_adapter").model,
        stacked_adapter=step.artifact("stacked_adapter").model,
        reranker=step.artifact("reranker").model,
        late_interaction=step.artifact("late_interaction").model,
    )


_MEASURED = (
    "tuned_embedder", "embedding_adapter", "stacked_adapter", "reranker", "late_interaction",
)  # fmt: skip


def _evaluate(step: Step) -> Produced:
    from ragft_pipeline.evaluation.retrieval_eval import evaluate_retrieval

    data, models = _evaluation_data(step), _measured_models(step)
    return Produced(*evaluate_retrieval(data, models, step.settings, step.work))


retrieval_eval = Recipe(
    "retrieval_eval",
    _evaluate,
    heavy=True,
    inputs=(
        "chunked_nodes", "node_embeddings", "train_qa_pairs", "val_qa_pairs", "test_qa_pairs",
        "gold_questions", "tuned_embedder", "embedding_adapter", "stacked_adapter", "reranker",
        "late_interaction",
    ),
    sections=("evaluation", "late_interaction", "embedder"),
    weights=("embedder",),
    table=schemas.EVAL_ROWS,
)  # fmt: skip


_PAIRS = tuple(f"{split}_qa_pairs" for split in SPLITS)


_REFITTED = ("embedding_adapter", "tuned_embedder", "stacked_adapter")


def _refit(step: Step) -> Produced:
    from ragft_pipeline.tuning.refit import refit_models as refit

    pairs = pa.concat_tables([step.table(name) for name in _PAIRS])
    statistics = TermStatistics.from_table(step.table("corpus_statistics"))
    measured = {name: step.artifact(name) for name in _REFITTED}
    nodes = step.table("chunked_nodes")
    weight = float(step.artifact("teacher_scores").facts["bm25_weight"])
    facts = refit(pairs, nodes, statistics, measured, weight, step.settings, step.work)
    if facts["refitted"] != "none":
        record_documents(step.work.model, nodes)
    return Produced(facts=facts)


refit_models = Recipe(
    "refit_models",
    _refit,
    heavy=True,
    inputs=(*_PAIRS, "chunked_nodes", "corpus_statistics", "teacher_scores", *_REFITTED),
    sections=("refit", "adapter", "tuned_embedder", "teacher", "embedder"),
    weights=("teacher", "embedder"),
)


def released_models(step: Step) -> Models:
    """Return what a release of this version serves: refitted parts, else the measured ones."""
    from ragft_pipeline.evaluation.trial import Models

    def released(asset: str) -> Path:
        refitted = step.artifact("refit_models").model / asset
        return refitted if refitted.is_dir() else step.artifact(asset).model

    return Models(
        tuned_embedder=released("tuned_embedder"),
        adapter=released("embedding_adapter"),
        stacked_adapter=released("stacked_adapter"),
        late_interaction=step.artifact("late_interaction").model,
    )


def _evaluate_refit(step: Step) -> Produced:
    from ragft_pipeline.evaluation.retrieval_eval import evaluate_refit, read_choices

    return Produced(
        evaluate_refit(
            step.table("chunked_nodes"),
            step.table("gold_questions"),
            released_models(step),
            read_choices(step.artifact("retrieval_eval").path),
            step.settings,
            step.work,
        )
    )


refit_eval = Recipe(
    "refit_eval",
    _evaluate_refit,
    heavy=True,
    inputs=(
        "chunked_nodes", "node_embeddings", "gold_questions", "refit_models", *_REFITTED,
        "late_interaction", "retrieval_eval",
    ),
    sections=("evaluation", "late_interaction", "embedder"),
    weights=("embedder",),
    table=schemas.EVAL_ROWS,
)  # fmt: skip


def _report(step: Step) -> Produced:
    from ragft_pipeline.evaluation.report import ReportInput, write_report
    from ragft_pipeline.evaluation.retrieval_eval import read_choices

    evaluated = step.artifact("retrieval_eval")
    assets = {
        recipe.name: {**link.facts, "how": link.how, "seconds": link.seconds}
        for recipe in RECIPES
        if recipe.name != "eval_report" and (link := step.store.linked(step.version, recipe.name))
    }
    given = ReportInput(
        version=step.version,
        rows=evaluated.table(),
        latency=evaluated.table(schemas.LATENCY.name),
        nodes=step.table("chunked_nodes"),
        refitted=step.table("refit_eval"),
        choices=read_choices(evaluated.path).to_json(),
        corpus=corpus_facts(step),
        skipped=step.snapshot.table(schemas.SKIPPED).to_pylist(),
        assets=assets,
    )
    report = write_report(given, step.settings, step.work)
    facts = {"verdict": report.verdict.sentence, "recommended": report.verdict.recommended}
    return Produced(facts={**facts, "table": report.markdown, **report.metrics})


def corpus_facts(step: Step) -> dict[str, object]:
    """Return what a reader of the report wants to know of the corpus."""
    facts = step.snapshot.facts
    nodes = {split: step.artifact(f"{split}_nodes").facts["row_count"] for split in SPLITS}
    pairs = {split: step.artifact(f"{split}_qa_pairs").facts["row_count"] for split in SPLITS}
    return {
        "source": facts["source"],
        "documents": facts["documents"],
        "skipped documents": facts["skipped"],
        "characters": facts["characters"],
        "nodes": ", ".join(f"{split} {number}" for split, number in nodes.items()),
        "synthetic questions": ", ".join(f"{split} {number}" for split, number in pairs.items()),
        "gold questions": step.artifact("gold_questions").facts["row_count"],
    }


eval_report = Recipe(
    "eval_report",
    _report,
    inputs=("retrieval_eval", "refit_eval", "corpus_snapshot", "chunked_nodes"),
    sections=("evaluation",),
)


def _champion(step: Step) -> Produced:
    from ragft_pipeline.evaluation.retrieval_eval import read_choices
    from ragft_pipeline.release.judging import Candidate
    from ragft_pipeline.release.promotion import promote_if_better

    evaluated = step.artifact("retrieval_eval")
    documents = step.table("corpus_snapshot").sort_by("path").to_pylist()
    candidate = Candidate(
        step.version,
        evaluated.table(),
        read_choices(evaluated.path),
        _evaluation_data(step),
        released_models(step),
        {name: step.artifact(name).action for name in _MEASURED},
        {row["doc_key"]: row["path"] for row in reversed(documents)},
    )
    decision = promote_if_better(candidate, step.settings, step.work)
    return Produced(facts=decision.facts(), data_version=decision.bundle.digest)


def _turn(snapshot: Snapshot) -> str:
    from ragft_pipeline.release.turns import turn

    return turn(snapshot)


champion = Recipe(
    "champion",
    _champion,
    heavy=True,
    inputs=(
        "corpus_snapshot", "chunked_nodes", "node_embeddings", *_PAIRS, "gold_questions",
        *_MEASURED, "retrieval_eval", "refit_models", "refit_eval", "eval_report",
    ),
    sections=("gate", "evaluation", "reranker", "late_interaction", "embedder"),
    weights=("embedder",),
    identity=_turn,
)  # fmt: skip

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
    node_embeddings,
    teacher_scores,
    tuned_embedder,
    stacked_adapter,
    embedding_adapter,
    late_interaction,
    reranker,
    retrieval_eval,
    refit_models,
    refit_eval,
    eval_report,
    champion,
)
