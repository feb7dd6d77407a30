"""The answering model: chats, the tuned model, its evaluation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.answering.distractors import Library
from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.lineage.retraining import TRAIN, VAL, Rows, decide, record_rows
from ragft_pipeline.lineage.steps import Decision, Produced, Recipe, Step
from ragft_pipeline.lineage.taint import record_documents
from ragft_pipeline.recipes.corpus import SPLITS, cut_version
from ragft_pipeline.recipes.models import trained_reranker
from ragft_pipeline.recipes.reading import term_statistics
from ragft_pipeline.retrieval.encoder import Encoder

if TYPE_CHECKING:
    from ragft_pipeline.answering.evaluation import Answerer, HeldOutText
    from ragft_pipeline.answering.support import Judge
    from ragft_pipeline.store import Artifact


def _library(step: Step, split: str) -> Library:
    """Return the nodes that chats of a split may show."""
    own, train = step.table(f"{split}_nodes"), step.table("train_nodes")
    counted = cut_version(step, str(step.snapshot.facts["statistics_version"])).read_all()
    known = set(counted.column("node_id").to_pylist())
    texts = node_texts(own, train)
    documents: dict[str, set[str]] = {}
    for doc_key, node_id in zip(*(own.column(n).to_pylist() for n in ("doc_key", "node_id"))):
        documents.setdefault(doc_key, set()).add(node_id)
    return Library(
        texts,
        frozenset(known.intersection(train.column("node_id").to_pylist())),
        {doc_key: frozenset(nodes) for doc_key, nodes in documents.items()},
        term_statistics(step),
        step.artifact("corpus_statistics").data_version,
    )


def _chats_recipe(split: str) -> Recipe:
    def make(step: Step) -> Produced:
        from ragft_pipeline.answering.chats import make_chats

        made = make_chats(
            step.table(f"{split}_qa_pairs"),
            step.table(f"{split}_nodes"),
            _library(step, split),
            split == "train",
            Encoder.base(step.settings.embedder, step.settings.compute),
            step.settings,
            step.work,
        )
        kinds = made.table.column("kind").to_pylist()
        declined = pc.sum(pc.equal(made.table.column("source"), 0)).as_py() or 0
        facts: dict[str, Any] = {"unanswerable": made.unanswerable, "without_source": declined}
        facts |= {f"kind_{kind}": kinds.count(kind) for kind in sorted(set(kinds))}
        return Produced(made.table, facts)

    own_nodes = (f"{split}_nodes",) if split != "train" else ()
    return Recipe(
        f"{split}_chats",
        make,
        inputs=(f"{split}_qa_pairs", *own_nodes, "train_nodes", "corpus_statistics"),
        sections=("chats", "questions", "chunking", "embedder"),
        weights=("embedder",),
        calls=(
            "answering.answers", "answering.asking", "answering.distractors", "answering.focus",
            "answering.prompts", "corpus.chunking", "questions.llm", "questions.replies",
            "retrieval.encoder", "retrieval.words",
        ),
        table=schemas.CHATS,
        identity=lambda snapshot: str(snapshot.facts["statistics_version"]),
        heavy=True,
    )  # fmt: skip


train_chats, val_chats, test_chats = (_chats_recipe(split) for split in SPLITS)


def _tune(step: Step) -> Produced:
    where = step.settings.tuned_llm.where
    facts: dict[str, Any] = {"where": where}
    if where == "local":
        from ragft_pipeline.answering.tuning import tune_language_model

        chats = [step.table(f"{split}_chats") for split in SPLITS[:2]]
        facts |= tune_language_model(chats[0], chats[1], step.settings, step.work)
    elif where == "hosted":
        from ragft_pipeline.answering.hosted import tune_at_service

        folders = [step.artifact(f"{split}_chats").path for split in SPLITS[:2]]
        facts |= tune_at_service(step.action, folders[0], folders[1], step.settings, step.work)
    if where != "none":
        record_documents(step.work.model, step.table("train_nodes"), step.table("val_nodes"))
        record_rows(step.work.folder, _chats_of(step))
    return Produced(facts=facts)


def _chats_of(step: Step) -> Rows:
    return {TRAIN: step.table("train_chats"), VAL: step.table("val_chats")}


def _keep_llm(step: Step, model: Artifact) -> Decision:
    if step.settings.tuned_llm.where == "none":
        return Decision(True, "tuned_llm.where is none")
    return decide(step, model, _chats_of(step))


tuned_llm = Recipe(
    "tuned_llm",
    _tune,
    keep=_keep_llm,
    inputs=("train_chats", "val_chats", "train_nodes", "val_nodes"),
    sections=("tuned_llm",),
    weights=("tuned_llm",),
    heavy=True,
)


def _answerers(step: Step) -> dict[str, Callable[[], Answerer]]:
    """Return what opens the base and the tuned model; none where no model was tuned."""
    from ragft_pipeline.answering.answerers import open_answerer
    from ragft_pipeline.answering.evaluation import BASE, TUNED

    if step.settings.tuned_llm.where == "none":
        return {}
    tuned = step.artifact("tuned_llm")
    return {name: partial(open_answerer, name, step.settings, tuned) for name in (BASE, TUNED)}


def _judge(step: Step) -> Judge:
    from ragft_pipeline.answering.support import EndpointJudge, ScoreJudge
    from ragft_pipeline.retrieval.late_interaction import LateInteraction
    from ragft_pipeline.retrieval.reranking import PairScorer, Reranker

    settings = step.settings
    if settings.llm_eval.judge is not None:
        return EndpointJudge(settings.llm_eval.judge)
    reranker = trained_reranker(step)
    scorer: PairScorer = (
        Reranker(reranker, settings.reranker, settings.compute)
        if reranker
        else LateInteraction(Encoder.base(settings.embedder, settings.compute))
    )
    return ScoreJudge.calibrated(scorer, step.table("val_chats"), settings.chats.decline, step.work)


def _evaluate(step: Step) -> Produced:
    from ragft_pipeline.answering.evaluation import evaluate_answers
    from ragft_pipeline.answering.measured import Measured
    from ragft_pipeline.answering.questions import questions_to_answer
    from ragft_pipeline.answering.support import ScoreJudge

    judge = _judge(step)
    questions = questions_to_answer(
        step.table("retrieval_eval"),
        step.table("gold_questions"),
        step.table("test_chats"),
        step.table("chunked_nodes"),
        step.snapshots.text,
        Encoder.base(step.settings.embedder, step.settings.compute),
        step.settings,
        step.work,
    )
    rows, facts = evaluate_answers(
        questions, _held_out(step), _answerers(step), judge, step.settings, step.work
    )
    Measured.of(step.settings, step.artifact("tuned_llm")).save(step.work.folder)
    if isinstance(judge, ScoreJudge):
        facts["judge"] = "the reranker" if trained_reranker(step) else "late interaction"
        facts["judge_accuracy"] = judge.accuracy
    return Produced(rows, facts)


def _held_out(step: Step) -> list[HeldOutText]:
    from ragft_pipeline.answering.evaluation import HeldOutText

    nodes = step.table("chunked_nodes")
    nodes = nodes.filter(pc.equal(nodes.column("split"), "test")).sort_by("node_id")
    rows = {row["node_id"]: row for row in nodes.to_pylist()}
    chosen = list(rows.values())[: step.settings.llm_eval.perplexity_texts]
    return [HeldOutText(row["node_id"], row["text"], row["cluster"]) for row in chosen]


llm_eval = Recipe(
    "llm_eval",
    _evaluate,
    inputs=(
        "tuned_llm", "val_chats", "test_chats", "gold_questions", "chunked_nodes", "reranker",
        "retrieval_eval",
    ),
    sections=("llm_eval", "chats", "tuned_llm", "evaluation", "gate", "reranker", "embedder"),
    weights=("tuned_llm", "embedder"),
    code=3,
    calls=(
        "answering.evaluation", "answering.focus", "answering.prompts", "questions.llm",
        "questions.replies", "retrieval.encoder", "retrieval.late_interaction",
        "retrieval.token_vectors",
    ),
    table=schemas.LLM_EVAL,
    heavy=True,
)  # fmt: skip


def _report(step: Step) -> Produced:
    from ragft_pipeline.answering.report import write_answering_report
    from ragft_pipeline.answering.summary import summarise

    evaluated = step.artifact("llm_eval")
    losses = evaluated.table(schemas.LLM_LOSSES.name)
    summary = summarise(evaluated.table(), losses, step.settings)
    if summary is None:
        return Produced(facts={"verdict": "no answering model was tuned: tuned_llm.where is none"})
    write_answering_report(evaluated.table(), summary, evaluated.facts, step.version, step.work)
    return Produced(facts={"verdict": summary.verdict.sentence})


answering_report = Recipe(
    "answering_report",
    _report,
    code=2,
    inputs=("llm_eval",),
    sections=("evaluation", "gate", "tuned_llm"),
)
