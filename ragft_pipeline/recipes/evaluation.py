"""The evaluation: every system on every set, what a release gains, and the page that says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragft_pipeline import schemas
from ragft_pipeline.identities import SEARCHING
from ragft_pipeline.lineage.foresight import foresight
from ragft_pipeline.lineage.steps import Produced, Recipe, Step
from ragft_pipeline.recipes.changes import kept_pools
from ragft_pipeline.recipes.corpus import SPLITS
from ragft_pipeline.recipes.models import MEASURED, REFITTED, trained_reranker
from ragft_pipeline.recipes.reading import reading

if TYPE_CHECKING:
    from ragft_pipeline.evaluation.retrieval_eval import EvaluationData
    from ragft_pipeline.evaluation.retrievers import Models


def evaluation_data(step: Step) -> EvaluationData:
    """Return the tables an evaluation reads."""
    from ragft_pipeline.evaluation.nodes import Nodes
    from ragft_pipeline.evaluation.retrieval_eval import EvaluationData

    return EvaluationData(
        nodes=Nodes(step.artifact("chunked_nodes").table_path()),
        train_pairs=step.table("train_qa_pairs", ("question",)),
        test_pairs=step.table("test_qa_pairs"),
        gold=step.table("gold_questions"),
    )


def measured_models(step: Step) -> Models:
    """Return the models that were trained without the test documents."""
    from ragft_pipeline.evaluation.retrievers import Models

    return Models(
        tuned_embedder=step.artifact("tuned_embedder").model,
        adapter=step.artifact("embedding_adapter").model,
        stacked_adapter=step.artifact("stacked_adapter").model,
        reranker=trained_reranker(step),
        late_interaction=step.artifact("late_interaction").model,
    )


def released_models(step: Step) -> Models:
    """Return what a release of this version serves: refitted parts, else the measured ones."""
    measured, refitted = measured_models(step), step.artifact("refit_models").model

    def released(asset: str, model: Path | None) -> Path | None:
        return refitted / asset if (refitted / asset).is_dir() else model

    return replace(
        measured,
        tuned_embedder=released("tuned_embedder", measured.tuned_embedder),
        adapter=released("embedding_adapter", measured.adapter),
        stacked_adapter=released("stacked_adapter", measured.stacked_adapter),
    )


def _evaluate(step: Step) -> Produced:
    from ragft_pipeline.evaluation.retrieval_eval import evaluate_retrieval

    data, released, measured = evaluation_data(step), released_models(step), measured_models(step)
    settings = reading(step)
    kept = kept_pools(step, data.nodes, settings, *MEASURED, "refit_models", "passage_context")
    return Produced(*evaluate_retrieval(data, released, measured, settings, step.work, kept))


retrieval_eval = Recipe(
    "retrieval_eval",
    _evaluate,
    code=7,
    heavy=True,
    inputs=(
        "chunked_nodes", "node_embeddings", "train_qa_pairs", "test_qa_pairs", "gold_questions",
        *REFITTED, "refit_models", "reranker", "late_interaction", "passage_context",
    ),
    sections=("evaluation", "late_interaction", "reranker", "passages", "embedder"),
    weights=("embedder",),
    calls=SEARCHING,
    table=schemas.EVAL_ROWS,
)  # fmt: skip


def _report(step: Step) -> Produced:
    from ragft_pipeline.evaluation.choosing import Choices
    from ragft_pipeline.evaluation.report import ReportInput, write_report

    evaluated = step.artifact("retrieval_eval")
    assets = {
        link.asset: {**link.facts, "how": link.how, "seconds": link.seconds}
        for link in step.store.links(step.version).values()
        if link.asset != "eval_report"
    }
    given = ReportInput(
        version=step.version,
        rows=evaluated.table(),
        latency=evaluated.table(schemas.LATENCY.name),
        nodes=step.table("chunked_nodes"),
        choices=Choices.load(evaluated.path),
        corpus=corpus_facts(step),
        skipped=step.snapshot.table(schemas.SKIPPED).to_pylist(),
        warnings=step.snapshot.table(schemas.WARNINGS).to_pylist(),
        assets=assets,
        notes=[*foresight(step.snapshot, step.settings), *_imports(step)],
    )
    facts = write_report(given, step.settings, step.work).facts()
    if given.notes:
        facts["notes"] = "\n".join(given.notes)
    return Produced(facts=facts)


def _imports(step: Step) -> list[str]:
    """Say how many questions of imported sets are about no node of any split."""
    facts = [step.artifact(f"{split}_qa_pairs").facts for split in SPLITS]
    asked = max(one.get("imported_questions", 0) for one in facts)
    matched = sum(one.get("imported_matched", 0) for one in facts)
    if matched or not asked:
        return []
    return [
        f"{asked} of {asked} imported questions match no node: their texts stand in no document of "
        "this version"
    ]


def corpus_facts(step: Step) -> dict[str, object]:
    """Return what a reader of the report wants to know of the corpus."""
    facts = step.snapshot.facts
    nodes = {split: step.artifact(f"{split}_nodes").facts["row_count"] for split in SPLITS}
    pairs = {split: step.artifact(f"{split}_qa_pairs").facts["row_count"] for split in SPLITS}
    return {
        "source": facts["source"],
        "documents": facts["documents"],
        "skipped documents": facts["skipped"],
        **{f"{name} because": text for name, text in step.snapshot.left_out.items()},
        "characters": facts["characters"],
        "nodes": ", ".join(f"{split} {number}" for split, number in nodes.items()),
        "synthetic questions": ", ".join(f"{split} {number}" for split, number in pairs.items()),
        "gold questions": step.artifact("gold_questions").facts["row_count"],
    }


eval_report = Recipe(
    "eval_report",
    _report,
    code=8,
    inputs=("retrieval_eval", "corpus_snapshot", "chunked_nodes"),
    sections=("evaluation", "gate", "chunking", "embedder"),
)
