"""The adapter: a map over frozen query vectors, taught by the hybrid over all train nodes.

Vectors of questions and nodes are computed once, so an epoch is a few matrix products. The loss is
listwise distillation over the whole train corpus, KL(softmax(teacher / t) || softmax(student / s)),
plus a little cross-entropy on the source node; the map starts as identity and is then shrunk
towards it by a strength chosen on val.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.retrieval.adapters import adapter_class, apply_adapter, save_adapter
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.metrics import mean_of, smallest_sufficient
from ragft_pipeline.settings import AdapterSettings, Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.data import Questions, TrainingTables
from ragft_pipeline.tuning.teacher import mixed_scores

if TYPE_CHECKING:
    import torch
    from llama_index.embeddings.adapter.utils import BaseAdapter

_LOADING = """
from llama_index.embeddings.adapter import AdapterEmbeddingModel
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
base = HuggingFaceEmbedding(model_name=BASE_MODEL)  # the base named above
embed_model = AdapterEmbeddingModel(base, THIS_FOLDER{cls})
"""


def train_adapter(
    tables: TrainingTables,
    teacher: pa.Table,
    settings: Settings,
    work: Workspace,
) -> dict[str, Any]:
    """Train the query adapter and save it, with its checkpoints, into the workspace's model folder.

    Returns facts: losses, the chosen strength and val nDCG@10 before and after.
    """
    import torch

    recipe = settings.adapter
    questions, nodes, val = tables.questions(), tables.nodes(), tables.validation()
    encoder = Encoder.base(settings.embedder, settings.compute)
    _, query_vectors = cached_vectors(work, encoder, questions.by_id(), "query")
    _, node_vectors = cached_vectors(work, encoder, nodes, "document")
    _, val_queries = cached_vectors(work, encoder, val.questions.by_id(), "query")
    _, val_nodes_vectors = cached_vectors(work, encoder, val.nodes, "document")

    torch.manual_seed(recipe.seed)
    adapter = new_adapter(recipe, node_vectors.shape[1])
    column = {node_id: index for index, node_id in enumerate(nodes)}
    batches = _Batches(questions, teacher, column, settings)
    losses = _fit(
        adapter, query_vectors, node_vectors, batches, recipe, encoder.weights.digest, work
    )

    strengths = sorted(set(recipe.strengths))
    shrunk = [shrink(adapter, strength, recipe) for strength in strengths]
    before = val.ndcg(val_queries, val_nodes_vectors)
    after = [val.ndcg(apply_adapter(map_, val_queries), val_nodes_vectors) for map_ in shrunk]
    best = smallest_sufficient(strengths, after)
    save_adapter(shrunk[best], recipe.kind, encoder.weights.digest, work.model)
    facts = {
        "strength": strengths[best],
        "questions": len(questions),
        "nodes": len(nodes),
        "loss_first_epoch": losses[0],
        "loss_last_epoch": losses[-1],
        "val_ndcg_at_10_base": mean_of(before),
        "val_ndcg_at_10": mean_of(after[best]),
    }
    cls = "" if recipe.kind == "linear" else ", adapter_cls=TwoLayerNN"
    write_card(
        work.model,
        f"Query adapter ({recipe.kind}) over {settings.embedder.model}",
        "Maps query vectors of a frozen embedder; document vectors stay as they are.",
        {"base_digest": encoder.weights.digest, **facts, **recipe.model_dump(mode="json")},
        _LOADING.format(cls=cls),
    )
    return facts


def new_adapter(recipe: AdapterSettings, width: int) -> BaseAdapter:
    """Return an adapter that starts as the identity."""
    cls: Any = adapter_class(recipe.kind)
    if recipe.kind == "linear":
        linear: BaseAdapter = cls(width, width)
        return linear
    two_layer: BaseAdapter = cls(width, recipe.hidden, width, add_residual=True)
    return two_layer


def shrink(adapter: BaseAdapter, strength: float, recipe: AdapterSettings) -> BaseAdapter:
    """Return the adapter drawn towards the identity: strength 1 is as trained, 0 the identity."""
    import torch

    state = {name: tensor.detach().clone() for name, tensor in adapter.state_dict().items()}
    if recipe.kind == "linear":
        identity = torch.eye(state["linear.weight"].shape[0])
        state["linear.weight"] = identity + strength * (state["linear.weight"] - identity)
        width = state["linear.weight"].shape[1]
    else:
        state["residual_weight"] = strength * state["residual_weight"]
        width = state["linear1.weight"].shape[1]
    shrunk = new_adapter(recipe, width)
    shrunk.load_state_dict(state)
    return shrunk.eval()


class _Batches:
    """Shuffled batches of question rows with the teacher's scores spread over all nodes."""

    def __init__(
        self, questions: Questions, teacher: pa.Table, column: dict[str, int], settings: Settings
    ) -> None:
        by_id = {row["question_id"]: row for row in teacher.to_pylist()}
        weight = settings.teacher.bm25_weight
        self._rows = [
            (
                np.array([column[node_id] for node_id in by_id[question_id]["node_ids"]]),
                mixed_scores(by_id[question_id], weight),
            )
            for question_id in questions.ids
        ]
        self._own = np.array([column[node_id] for node_id in questions.node_ids])
        self._width = len(column)
        self._size = settings.adapter.batch_size
        self._random = np.random.default_rng(settings.adapter.seed)

    def __len__(self) -> int:
        return (len(self._rows) + self._size - 1) // self._size

    def epoch(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        order = self._random.permutation(len(self._rows))
        for start in range(0, len(order), self._size):
            batch = order[start : start + self._size]
            target = np.empty((len(batch), self._width), np.float32)
            for row, index in enumerate(batch):
                columns, scores = self._rows[index]
                target[row] = scores.min()  # what the teacher did not list is at most this good
                target[row, columns] = scores
            yield batch, target, self._own[batch]


def _fit(
    adapter: BaseAdapter,
    query_vectors: np.ndarray,
    node_vectors: np.ndarray,
    batches: _Batches,
    recipe: AdapterSettings,
    base_digest: str,
    work: Workspace,
) -> list[float]:
    import torch
    from torch.nn import functional

    queries, documents = torch.from_numpy(query_vectors), torch.from_numpy(node_vectors)
    steps = len(batches) * recipe.epochs
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=max(2, steps), pct_start=0.1
    )
    saved = {max(1, round(steps * (n + 1) / recipe.checkpoints)) for n in range(recipe.checkpoints)}
    losses, step = [], 0
    for epoch in range(recipe.epochs):
        total = 0.0
        for batch, target, own in batches.epoch():
            student = functional.normalize(adapter(queries[batch]), dim=1) @ documents.T
            log_student = functional.log_softmax(student / recipe.student_temperature, dim=1)
            wanted = torch.softmax(torch.from_numpy(target) / recipe.teacher_temperature, dim=1)
            distil = functional.kl_div(log_student, wanted, reduction="batchmean")
            source = functional.nll_loss(log_student, torch.from_numpy(own))
            loss: torch.Tensor = distil + recipe.source_weight * source
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            step += 1
            total += loss.item()
            if step in saved:
                folder = work.model / "checkpoints" / f"step_{step}"
                folder.mkdir(parents=True, exist_ok=True)
                save_adapter(adapter, recipe.kind, base_digest, folder)
        losses.append(total / len(batches))
        work.progress(f"adapter: epoch {epoch + 1}/{recipe.epochs}, loss {losses[-1]:.4f}")
    return losses
