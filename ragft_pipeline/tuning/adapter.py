"""The adapter: maps over frozen vectors, taught by the hybrid over all train nodes.

Vectors of questions and nodes are computed once, so an epoch is a few matrix products. The loss is
listwise distillation over the whole train corpus, KL(softmax(teacher / t) || softmax(student / s)),
plus a little cross-entropy on the source node; the maps start as identity and are then shrunk
towards it by a strength chosen on val.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.retrieval.adapters import Adapter, linear_adapter, two_layer_adapter
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.metrics import mean_of, smallest_sufficient
from ragft_pipeline.settings import AdapterSettings, Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.data import Questions, TrainingTables, Validation
from ragft_pipeline.tuning.teacher import TeacherLists

if TYPE_CHECKING:
    import torch

_LOADING = """
from llama_index.embeddings.adapter import AdapterEmbeddingModel
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
base = HuggingFaceEmbedding(model_name=BASE_MODEL)  # the base named above
embed_model = AdapterEmbeddingModel(base, THIS_FOLDER{cls})
# the document side of a two-sided adapter: map the stored vectors once
from ragft_pipeline.retrieval.adapters import load_adapter
vectors = load_adapter(THIS_FOLDER, BASE_DIGEST).documents(vectors)
"""

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
        teacher: TEACHER_SCORES of the train questions over the train nodes.
        encoder: whose frozen vectors it maps: the base model, or a tuned one.

    Returns facts: losses, the chosen strength and val nDCG@10 before and after.
    """
    recipe = settings.adapter
    questions, val = tables.questions(), tables.validation()

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
    maps = _Maps(recipe, node_vectors.shape[1])
    batches = _Batches(questions, TeacherLists(teacher, questions, list(nodes)), settings)
    losses = _fit(
        maps, query_vectors, node_vectors, batches, recipe, work.progress,
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
    recipe = settings.adapter
    write_card(
        folder,
        f"Adapter ({recipe.kind}, side: {recipe.side}) over {encoder.weights.name}",
        "Maps vectors of a frozen embedder; nothing is encoded again.",
        {"base_digest": encoder.weights.digest, **facts, **recipe.model_dump(mode="json")},
        _LOADING.format(cls=", adapter_cls=TwoLayerNN" if recipe.kind == "two_layer" else ""),
    )


class _Maps:
    """The trainable maps of both sides, the identity at the start."""

    def __init__(self, recipe: AdapterSettings, width: int) -> None:
        self._recipe = recipe
        self._sides = [_new_map(recipe, width) for _ in range(2 if recipe.side == "both" else 1)]

    def parameters(self) -> list[torch.Tensor]:
        return [parameter for side in self._sides for parameter in side.parameters()]

    def queries(self, vectors: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.normalize(self._sides[0](vectors), dim=1)

    def documents(self, vectors: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        if len(self._sides) == 1:
            return vectors
        return functional.normalize(self._sides[1](vectors), dim=1)

    def adapter(self, base_digest: str) -> Adapter:
        """Return the maps as they are now."""
        sides = [side.merged() if hasattr(side, "merged") else side for side in self._sides]
        whole = Adapter(base_digest, *sides)
        return whole.shrunk(1.0)  # a copy, so that training may go on


def _new_map(recipe: AdapterSettings, width: int) -> Any:
    import torch

    if recipe.kind == "two_layer":
        return two_layer_adapter(width, recipe.hidden)
    if recipe.kind == "linear":
        return linear_adapter(torch.eye(width)).train()

    class LowRank(torch.nn.Module):
        """Identity plus a product of two thin matrices, of which one starts at zero."""

        def __init__(self) -> None:
            super().__init__()
            self.down = torch.nn.Parameter(torch.randn(recipe.rank, width) / width**0.5)
            self.up = torch.nn.Parameter(torch.zeros(width, recipe.rank))

        def forward(self, vectors: torch.Tensor) -> torch.Tensor:
            return vectors + vectors @ self.down.T @ self.up.T

        def merged(self) -> Any:
            return linear_adapter(torch.eye(width) + self.up @ self.down)

    return LowRank()


class _Batches:
    """Shuffled batches of questions, with the teacher's scores over the step's nodes."""

    def __init__(self, questions: Questions, teacher: TeacherLists, settings: Settings) -> None:
        self._teacher = teacher
        self._number = len(questions)
        self._settings = settings
        self._random = np.random.default_rng(settings.adapter.seed)

    def __len__(self) -> int:
        size = self._settings.adapter.batch_size
        return (self._number + size - 1) // size

    def epoch(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield rows of questions, columns of nodes, the teacher's scores, places of the sources.

        The columns are all nodes while they are at most `nodes_per_step`; else the sources, the
        teacher's best of each question, and a random rest.
        """
        recipe = self._settings.adapter
        order = self._random.permutation(self._number)
        for start in range(0, len(order), recipe.batch_size):
            batch = order[start : start + recipe.batch_size]
            columns = self._teacher.columns(batch, recipe.nodes_per_step, self._random)
            yield batch, columns, *self._teacher.dense(batch, columns)


def _fit(
    maps: _Maps,
    query_vectors: np.ndarray,
    node_vectors: np.ndarray,
    batches: _Batches,
    recipe: AdapterSettings,
    progress: Callable[[str], None],
    checkpoint: Callable[[int], None],
) -> list[float]:
    import torch
    from torch.nn import functional

    queries, documents = torch.from_numpy(query_vectors), torch.from_numpy(node_vectors)
    steps = len(batches) * recipe.epochs
    optimiser = torch.optim.AdamW(maps.parameters(), lr=recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=max(2, steps), pct_start=0.1
    )
    saved = {max(1, round(steps * (n + 1) / recipe.checkpoints)) for n in range(recipe.checkpoints)}
    losses, step = [], 0
    for epoch in range(recipe.epochs):
        total = 0.0
        for batch, columns, target, own in batches.epoch():
            shown = documents if len(columns) == len(documents) else documents[columns]
            student = maps.queries(queries[batch]) @ maps.documents(shown).T
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
                checkpoint(step)
        losses.append(total / len(batches))
        progress(f"adapter: epoch {epoch + 1}/{recipe.epochs}, loss {losses[-1]:.4f}")
    return losses
