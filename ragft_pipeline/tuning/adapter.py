"""The adapter: maps over frozen vectors, taught by the hybrid over all train nodes.

Vectors of questions and nodes are computed once, so an epoch is a few matrix products. The loss is
listwise distillation over the whole train corpus, KL(softmax(teacher / t) || softmax(student / s)),
plus a little cross-entropy on the source node; the maps start as identity and are then shrunk
towards it by a strength chosen on val.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.retrieval.adapters import Adapter
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.metrics import mean_of, smallest_sufficient
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.data import Questions, TrainingTables, Validation
from ragft_pipeline.tuning.maps import MapLesson, Maps, fit_maps
from ragft_pipeline.tuning.teacher import TeacherLists

_LOADING = """
from llama_index.embeddings.adapter import AdapterEmbeddingModel{imported}
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
base = HuggingFaceEmbedding(model_name=BASE_MODEL)  # the base named above
embed_model = AdapterEmbeddingModel(base, THIS_FOLDER{cls})
# the document side of a two-sided adapter: map the stored vectors once
from ragft_pipeline.retrieval.adapters import load_adapter
vectors = load_adapter(THIS_FOLDER, BASE_DIGEST).documents(vectors)
"""

_TWO_LAYER_NN = "\nfrom llama_index.embeddings.adapter.utils import TwoLayerNN"
Checkpoint = Callable[[int, Adapter], None]


def train_adapter(
    tables: TrainingTables,
    teacher: pa.Table,
    encoder: Encoder,
    settings: Settings,
    work: Workspace,
) -> dict[str, Any]:
    """Train the adapter and save it, with its checkpoints, into the workspace's model folder.

    Args:
        teacher: TEACHER_SCORES of the train questions and the log's over the train nodes.
        encoder: whose frozen vectors it maps: the base model, or a tuned one.

    Returns facts: losses, the chosen strength and val nDCG@10 before and after.
    """
    recipe = settings.adapter
    questions, val = tables.taught(), tables.validation()

    def keep(step: int, adapter: Adapter) -> None:
        adapter.save(work.model / "checkpoints" / f"step_{step}")

    adapter, losses = fit_adapter(questions, tables.nodes(), teacher, encoder, settings, work, keep)
    strengths = sorted(set(recipe.strengths))
    shrunk = [adapter.shrunk(strength) for strength in strengths]
    before, *after = _on_val(val, [None, *shrunk], encoder, work)
    best = smallest_sufficient(strengths, after)
    shrunk[best].save(work.model)
    facts = {
        "strength": strengths[best],
        "questions": len(questions),
        "of_the_log": len(questions) - tables.train_pairs.num_rows,
        "nodes": tables.train_nodes.num_rows,
        "loss_first_epoch": losses[0],
        "loss_last_epoch": losses[-1],
        "val_ndcg_at_10_base": mean_of(before),
        "val_ndcg_at_10": mean_of(after[best]),
    }
    _write_card(work.model, encoder, settings, facts)
    return facts


def refit_adapter(
    questions: Questions,
    nodes: dict[str, str],
    teacher: pa.Table,
    encoder: Encoder,
    strength: float,
    settings: Settings,
    work: Workspace,
    folder: Path,
) -> dict[str, Any]:
    """Train the adapter on all documents with a strength chosen before, and save it."""
    adapter, losses = fit_adapter(questions, nodes, teacher, encoder, settings, work)
    adapter.shrunk(strength).save(folder)
    facts = {"strength": strength, "questions": len(questions), "loss_last_epoch": losses[-1]}
    _write_card(folder, encoder, settings, facts)
    return facts


def fit_adapter(
    questions: Questions,
    nodes: dict[str, str],
    teacher: pa.Table,
    encoder: Encoder,
    settings: Settings,
    work: Workspace,
    checkpoint: Checkpoint = lambda step, adapter: None,
) -> tuple[Adapter, list[float]]:
    """Return the adapter trained at full strength, and each epoch's mean loss.

    Args:
        questions, nodes: what to train on; every question's source is among the nodes.
        teacher: TEACHER_SCORES of the questions over the nodes.
        checkpoint: called `adapter.checkpoints` times with the step and the adapter so far.
    """
    import torch

    recipe = settings.adapter
    _, query_vectors = cached_vectors(work, encoder, questions.by_id(), "query")
    _, node_vectors = cached_vectors(work, encoder, nodes, "document")
    torch.manual_seed(recipe.seed)
    maps = Maps(recipe, node_vectors.shape[1], encoder.device)
    lesson = MapLesson(query_vectors, node_vectors, TeacherLists(teacher, questions, list(nodes)))
    losses = fit_maps(
        maps, lesson, recipe, "adapter", work.progress,
        lambda step: checkpoint(step, maps.adapter(encoder.weights.digest)),
    )  # fmt: skip
    return maps.adapter(encoder.weights.digest), losses


def _on_val(
    val: Validation, adapters: list[Adapter | None], encoder: Encoder, work: Workspace
) -> list[np.ndarray]:
    """Return nDCG@10 of each val question with each adapter; None is without one."""
    _, queries = cached_vectors(work, encoder, val.questions.by_id(), "query")
    _, nodes = cached_vectors(work, encoder, val.nodes, "document")
    return [
        val.ndcg(queries, nodes)
        if adapter is None
        else val.ndcg(adapter.queries(queries), adapter.documents(nodes))
        for adapter in adapters
    ]


def _write_card(folder: Path, encoder: Encoder, settings: Settings, facts: dict[str, Any]) -> None:
    recipe, two_layer = settings.adapter, settings.adapter.kind == "two_layer"
    write_card(
        folder,
        f"Adapter ({recipe.kind}, side: {recipe.side}) over {encoder.weights.name}",
        "Maps vectors of a frozen embedder; nothing is encoded again.",
        {"base_digest": encoder.weights.digest, **facts, **recipe.model_dump(mode="json")},
        _LOADING.format(
            imported=_TWO_LAYER_NN if two_layer else "",
            cls=", adapter_cls=TwoLayerNN" if two_layer else "",
        ),
    )
