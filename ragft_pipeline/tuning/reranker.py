"""The reranker: a cross-encoder over the hybrid's candidates, stopped early on ranking quality.

It starts from any cross-encoder, or from an embedder's first layers with a new head, which learns
from short windows first (tuning/reranker_lists.py).
"""

from __future__ import annotations

import shutil
from typing import Any

import pyarrow as pa

from ragft_pipeline.compute import run_training
from ragft_pipeline.models.weights import require_embedder, resolve_weights
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.retrieval.reranking import is_cross_encoder
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.candidates import hybrid_candidates
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.data import TrainingTables, Validation
from ragft_pipeline.tuning.reranker_lists import ListMaker
from ragft_pipeline.tuning.reranker_training import Candidates, ListTraining
from ragft_pipeline.tuning.training import set_weights

_LOADING = """
from sentence_transformers import CrossEncoder
model = CrossEncoder(THIS_FOLDER)
# or in LlamaIndex
from llama_index.postprocessor.sbert_rerank import SentenceTransformerRerank
reranker = SentenceTransformerRerank(
    model=THIS_FOLDER, top_n=10, cross_encoder_kwargs={{"max_length": {max_length}}}
)
"""


def train_reranker(
    tables: TrainingTables,
    teacher: pa.Table,
    statistics: TermStatistics,
    settings: Settings,
    work: Workspace,
) -> dict[str, Any]:
    """Train the cross-encoder and save it into the workspace's model folder (safetensors).

    Returns facts: lists, pairs, the first and last losses, and nDCG@10 of val candidates as the
    first stage has them and reranked.
    """
    recipe = settings.reranker
    assert recipe.model is not None, "reranker.model names none"
    weights = resolve_weights(recipe.model)
    new_head = not is_cross_encoder(weights.folder)
    if new_head:
        require_embedder(weights)
    questions = tables.questions(recipe.max_questions)
    maker = ListMaker(tables.train_nodes, teacher, recipe)
    lists = maker.lists(questions, recipe.easy_share if new_head else 0.0)
    val = _candidates(tables.validation(recipe.val_questions), statistics, settings, work)

    folder = work.folder / "trainer"
    task = ListTraining(weights, new_head, lists, val, settings, folder)
    end, fitted = run_training(task, settings.compute, work.progress, work.folder)
    shutil.rmtree(folder, ignore_errors=True)
    if why := _nothing_learnt(fitted):
        work.progress(
            f"reranker: {why}: training ended; try another reranker.learning_rate, more "
            "max_questions, or recipe: bce"
        )
    model = task.start()
    set_weights(model, end)
    model.save_pretrained(str(work.model), create_model_card=False, safe_serialization=True)
    facts = {
        "questions": len(questions),
        "pairs": sum(len(one.passages) for one in lists),
        "easy_lists": sum(one.easy for one in lists),
        **fitted,
        "val_ndcg_at_10_first_stage": val.first_stage() if val else 0.0,
    }
    write_card(
        work.model,
        f"Reranker from {recipe.model}",
        "A cross-encoder tuned to rerank a hybrid's candidates on one corpus version.",
        {"base_digest": weights.digest, **facts, **recipe.model_dump(mode="json")},
        _LOADING.format(max_length=recipe.max_tokens),
    )
    return facts


def _nothing_learnt(fitted: dict[str, float]) -> str:
    """Say why a training was for nothing, if it was."""
    if fitted.get("collapsed"):
        return "collapsed, it gives all candidates of a question the same score"
    if fitted.get("at_chance"):
        return "its loss stays at chance, that of equal scores"
    return ""


def _candidates(
    val: Validation, statistics: TermStatistics, settings: Settings, work: Workspace
) -> Candidates | None:
    """Return the val questions' candidates from the untuned hybrid; None without questions."""
    if not len(val.questions):
        return None
    encoder = Encoder.base(settings.embedder, settings.compute)
    depth = max(settings.reranker.val_depths)
    return Candidates(val, hybrid_candidates(val, statistics, depth, encoder, work)[0])
