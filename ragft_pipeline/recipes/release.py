"""The release: models of all documents, and the champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from ragft_pipeline.identities import SCORING, SEARCHING
from ragft_pipeline.lineage.retraining import EVERY, LOGGED, decide, record_rows
from ragft_pipeline.lineage.steps import Decision, Produced, Recipe, Step
from ragft_pipeline.lineage.taint import record_documents
from ragft_pipeline.recipes.datasets import PAIRS, training_log
from ragft_pipeline.recipes.evaluation import evaluation_data, released_models
from ragft_pipeline.recipes.models import MEASURED, REFITTED, scorer_folders, stood_on_others
from ragft_pipeline.recipes.reading import read_nodes, read_statistics, reading

if TYPE_CHECKING:
    from ragft_pipeline.corpus.snapshots import Snapshot
    from ragft_pipeline.store import Artifact


def _refit(step: Step) -> Produced:
    from ragft_pipeline.tuning.refit import refit_models as refit

    pairs = pa.concat_tables([step.table(name) for name in PAIRS])
    statistics = read_statistics(step)
    measured = {name: step.artifact(name) for name in REFITTED}
    nodes, read = step.table("chunked_nodes"), read_nodes(step, "chunked_nodes")
    settings = reading(step)
    weight = float(step.artifact("teacher_scores").facts["bm25_weight"])
    log = training_log(step)
    facts = refit(pairs, nodes, read, statistics, measured, weight, settings, step.work, log)
    for name in REFITTED:  # a bundle takes each part by itself; its strength was chosen before
        if (step.work.model / name).is_dir():
            record_documents(step.work.model / name, nodes, chosen_with=measured[name].model)
    record_rows(step.work.folder, {EVERY: pairs, LOGGED: log})
    return Produced(facts=facts)


def _keep_refit(step: Step, model: Artifact) -> Decision:
    """Keep what was fitted to all documents with the models that it was fitted from."""
    pairs = pa.concat_tables([step.table(name) for name in PAIRS])
    rows = {EVERY: pairs, LOGGED: training_log(step)}
    return stood_on_others(step, model, *REFITTED) or decide(step, model, rows)


refit_models = Recipe(
    "refit_models",
    _refit,
    code=4,
    heavy=True,
    keep=_keep_refit,
    inputs=(
        *PAIRS,
        "chunked_nodes",
        "train_nodes",
        "passage_context",
        "corpus_statistics",
        "teacher_scores",
        "log_questions",
        *REFITTED,
    ),
    sections=(
        "refit",
        "adapter",
        "tuned_embedder",
        "teacher",
        "passages",
        "late_interaction",
        "embedder",
    ),
    weights=("teacher", "embedder"),
    calls=SCORING,
)


def _champion(step: Step) -> Produced:
    from ragft_pipeline.evaluation.choosing import Choices
    from ragft_pipeline.release.judging import Candidate
    from ragft_pipeline.release.promotion import promote_if_better
    from ragft_pipeline.serving.router_files import RoutingParts

    evaluated = step.artifact("retrieval_eval")
    documents = step.table("corpus_snapshot").sort_by("path").to_pylist()
    candidate = Candidate(
        step.version,
        evaluated.table(),
        Choices.load(evaluated.path),
        evaluation_data(step),
        step.artifact("chunked_nodes").table_path(),
        released_models(step),
        {name: step.artifact(name).action for name in MEASURED},
        {row["doc_key"]: row["path"] for row in reversed(documents)},
        RoutingParts(
            step.artifact("query_router").model,
            scorer_folders(step),
            step.table("tool_catalog"),
        ),
        {row["doc_key"]: row["metadata"] or "" for row in reversed(documents)},
    )
    decision = promote_if_better(candidate, reading(step), step.work)
    facts = decision.facts(str(step.artifact("eval_report").facts["ladder"]))
    return Produced(facts=facts, data_version=decision.bundle.digest)


def _turn(snapshot: Snapshot) -> str:
    from ragft_pipeline.release.turns import turn

    return turn(snapshot)


champion = Recipe(
    "champion",
    _champion,
    code=4,
    heavy=True,
    inputs=(
        "corpus_snapshot", "chunked_nodes", "node_embeddings", *PAIRS, "gold_questions",
        *MEASURED, "retrieval_eval", "refit_models", "eval_report", "query_router", "tool_catalog",
        "passage_context",
    ),
    sections=("gate", "evaluation", "passages", "reranker", "late_interaction", "embedder"),
    weights=("embedder",),
    calls=(*SEARCHING, "routing.catalog"),
    identity=_turn,
)  # fmt: skip


def _published_index(step: Step) -> Produced:
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.release.turns import is_current

    settings = step.settings
    if not settings.targets:
        return Produced(facts={"event": "none", "why": "no targets in ragft.yaml"})
    if not is_current(SnapshotStore(step.store), step.version):
        return Produced(facts={"event": "none", "why": "not the corpus as it is now"})
    from ragft_pipeline.publishing.champion import facts_of, publish_champion

    done = publish_champion(settings, step.store, step.work.progress)
    return Produced(facts={"event": "published", **facts_of(done)})


published_index = Recipe(
    "published_index",
    _published_index,
    inputs=("champion",),
    sections=("targets",),
    calls=(*SEARCHING, "routing.catalog", "publishing.content"),
    identity=_turn,
)
