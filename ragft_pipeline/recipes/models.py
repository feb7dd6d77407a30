"""The models: what is trained, and what may be kept from an earlier version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ragft_pipeline.errors import RagftError
from ragft_pipeline.identities import SCORING
from ragft_pipeline.lineage.retraining import LOGGED, TRAIN, VAL, decide, record_training
from ragft_pipeline.lineage.steps import Decision, Produced, Recipe, Step
from ragft_pipeline.recipes.datasets import LOG, TRAINING, read_tables, training_log
from ragft_pipeline.recipes.reading import read_scores, read_statistics
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.store import Artifact
from ragft_pipeline.tuning.data import TrainingTables


def require_questions(step: Step) -> None:
    """Raise RagftError where there is no training question."""
    if not step.table("train_qa_pairs").num_rows:
        raise RagftError(
            f"{step.work.asset}: there are no training questions for {step.version}; "
            "add documents or loosen questions.* in ragft.yaml"
        )


def training_tables(step: Step) -> TrainingTables:
    """Return what a model is trained on; RagftError where there are no questions."""
    require_questions(step)
    return read_tables(step)


def _trained(step: Step, tables: TrainingTables, facts: dict[str, Any]) -> Produced:
    record_training(step.work.folder, tables)
    return Produced(facts=facts)


def _keep(step: Step, model: Artifact) -> Decision:
    from ragft_pipeline.lineage.drift import JUDGES

    require_questions(step)
    rows = {TRAIN: step.table("train_qa_pairs"), VAL: step.table("val_qa_pairs")}
    if "log_questions" in step.inputs:
        rows[LOGGED] = training_log(step)
    return stood_on_others(step, model) or decide(step, model, rows, JUDGES[model.asset])


def stood_on_others(step: Step, model: Artifact, *assets: str) -> Decision | None:
    """Say that a model does not stay where one that it was made over is another.

    Args:
        assets: these models; by default those trained over an embedder's vectors.
    """
    for asset in assets or ("tuned_embedder",):
        link = step.inputs.get(asset)
        if link is not None and model.inputs[asset] != link.data_version:
            return Decision(False, f"{asset} is another one")
    return None


def _keep_reranker(step: Step, model: Artifact) -> Decision:
    if step.settings.reranker.model is None:
        return Decision(True, _NO_RERANKER)
    return _keep(step, model)


def _with_log(step: Step) -> tuple[TrainingTables, pa.Table]:
    """Return what a map is trained on, the log's questions among it, and the teacher's scores."""
    tables = replace(training_tables(step), log=training_log(step))
    scores = [read_scores(step, name) for name in ("teacher_scores", "log_scores")]
    return tables, pa.concat_tables(scores)


def _adapter(step: Step) -> Produced:
    """Train on passages alone, taught by a teacher who reads what stands above them too."""
    from ragft_pipeline.tuning.adapter import train_adapter

    tables, teacher = _with_log(step)
    train, val = (step.table(name) for name in ("train_nodes", "val_nodes"))
    tables = replace(tables, train_nodes=train, val_nodes=val)
    encoder = Encoder.base(step.settings.embedder, step.settings.compute)
    return _trained(step, tables, train_adapter(tables, teacher, encoder, step.settings, step.work))


embedding_adapter = Recipe(
    "embedding_adapter",
    _adapter,
    code=2,
    heavy=True,
    keep=_keep,
    inputs=(*TRAINING, "passage_context", "teacher_scores", *LOG),
    sections=("adapter", "embedder"),
    weights=("embedder",),
    calls=("retrieval.encoder",),
)


def _tuned_embedder(step: Step) -> Produced:
    from ragft_pipeline.tuning.embedder import train_embedder

    tables = training_tables(step)
    facts = train_embedder(tables, read_scores(step, "teacher_scores"), step.settings, step.work)
    return _trained(step, tables, facts)


tuned_embedder = Recipe(
    "tuned_embedder",
    _tuned_embedder,
    heavy=True,
    keep=_keep,
    inputs=(*TRAINING, "passage_context", "teacher_scores"),
    sections=("tuned_embedder", "embedder"),
    weights=("embedder",),
    calls=("retrieval.encoder",),
)


def tuned_encoder(step: Step) -> Encoder:
    """Return the tuned embedder."""
    folder = step.artifact("tuned_embedder").model
    return Encoder.tuned(folder, step.settings.embedder, step.settings.compute)


def _stacked_adapter(step: Step) -> Produced:
    from ragft_pipeline.tuning.adapter import train_adapter

    tables, teacher = _with_log(step)
    facts = train_adapter(tables, teacher, tuned_encoder(step), step.settings, step.work)
    return _trained(step, tables, facts)


stacked_adapter = Recipe(
    "stacked_adapter",
    _stacked_adapter,
    heavy=True,
    keep=_keep,
    inputs=(*TRAINING, "passage_context", "teacher_scores", *LOG, "tuned_embedder"),
    sections=("adapter", "embedder"),
    weights=("embedder",),
    calls=("retrieval.encoder",),
)


_NO_RERANKER = "reranker.model names none"


def _reranker(step: Step) -> Produced:
    from ragft_pipeline.tuning.reranker import train_reranker

    if step.settings.reranker.model is None:
        return Produced(facts={"trained": f"no: {_NO_RERANKER}"}, data_version=_NO_RERANKER)
    statistics = read_statistics(step)
    tables, teacher = training_tables(step), read_scores(step, "teacher_scores")
    facts = train_reranker(tables, teacher, statistics, step.settings, step.work)
    return _trained(step, tables, facts)


reranker = Recipe(
    "reranker",
    _reranker,
    code=4,
    heavy=True,
    keep=_keep_reranker,
    inputs=(*TRAINING, "passage_context", "teacher_scores", "corpus_statistics"),
    sections=("reranker", "embedder"),
    weights=("reranker", "embedder"),
    calls=("retrieval.encoder", "retrieval.words"),
)


def trained_reranker(step: Step) -> Path | None:
    """Return the reranker's folder; None where `reranker.model` names none."""
    folder = step.artifact("reranker").model
    return folder if folder.is_dir() else None


def scorer_folders(step: Step) -> dict[str, Path]:
    """Return the models that score pairs of question and passage, by their assets' names."""
    reranker = trained_reranker(step)
    found = {"reranker": reranker} if reranker else {}
    return {**found, "late_interaction": step.artifact("late_interaction").model}


def _late_interaction(step: Step) -> Produced:
    from ragft_pipeline.tuning.late_interaction import tune_late_interaction

    statistics = read_statistics(step)
    tables = training_tables(step)
    facts = tune_late_interaction(tables, statistics, step.settings, step.work)
    return _trained(step, tables, facts)


late_interaction = Recipe(
    "late_interaction",
    _late_interaction,
    code=3,
    heavy=True,
    keep=_keep,
    inputs=(*TRAINING, "passage_context", "corpus_statistics"),
    sections=("late_interaction", "embedder"),
    weights=("embedder",),
    calls=SCORING,
)

MEASURED = (
    "tuned_embedder", "embedding_adapter", "stacked_adapter", "reranker", "late_interaction",
)  # fmt: skip

REFITTED = ("embedding_adapter", "tuned_embedder", "stacked_adapter")
