"""Maps over frozen vectors, and their training against a teacher's scores of the whole corpus.

What is ranked may have one vector (a node) or several (a tool: its best-matching vector counts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ragft_pipeline.models.devices import memory_gib
from ragft_pipeline.retrieval.adapters import Adapter, linear_adapter, two_layer_adapter
from ragft_pipeline.settings import AdapterSettings
from ragft_pipeline.tuning.teacher import TeacherLists

if TYPE_CHECKING:
    import torch

_HELD = 0.25  # of a card's memory, that the vectors of a corpus may take


@dataclass(frozen=True)
class MapLesson:
    """What maps are trained on.

    Attributes:
        queries: vectors of the questions, float32 (questions, width).
        vectors: vectors of what is ranked, float32 (vectors, width).
        teacher: the teacher's scores, questions against items.
        starts: where each item's vectors begin, int (items + 1,); None: one vector an item.
    """

    queries: np.ndarray
    vectors: np.ndarray
    teacher: TeacherLists
    starts: np.ndarray | None = None

    def shown(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the vectors of some items, as rows, and the place among `columns` of each."""
        if self.starts is None:
            return columns, None
        rows = [np.arange(self.starts[item], self.starts[item + 1]) for item in columns]
        return np.concatenate(rows), np.repeat(np.arange(len(columns)), [len(r) for r in rows])


class Maps:
    """The trainable maps of both sides, the identity at the start.

    Args:
        width: of the vectors.
        device: that they are trained on; where they start is the same on all.
    """

    def __init__(self, recipe: AdapterSettings, width: int, device: str = "cpu") -> None:
        self.device = device
        sides = 2 if recipe.side == "both" else 1
        self._sides = [_new_map(recipe, width).to(device) for _ in range(sides)]

    def parameters(self) -> list[torch.Tensor]:
        """Return what is trained."""
        return [parameter for side in self._sides for parameter in side.parameters()]

    def queries(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return mapped unit vectors of questions."""
        from torch.nn import functional

        return functional.normalize(self._sides[0](vectors), dim=1)

    def documents(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return mapped unit vectors of what is ranked; those given, of a query-side map."""
        from torch.nn import functional

        if len(self._sides) == 1:
            return vectors
        return functional.normalize(self._sides[1](vectors), dim=1)

    def adapter(self, base_digest: str) -> Adapter:
        """Return the maps as they are now, on the CPU."""
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
            return linear_adapter(torch.eye(width) + (self.up @ self.down).cpu())

    return LowRank()


def _batches(
    lesson: MapLesson, recipe: AdapterSettings, random: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield an epoch: rows of questions, columns, the teacher's scores, places of the sources.

    The columns are all items while they are at most `nodes_per_step`; else the sources, the
    teacher's best of each question, and a random rest.
    """
    order = random.permutation(len(lesson.queries))
    for start in range(0, len(order), recipe.batch_size):
        batch = order[start : start + recipe.batch_size]
        columns = lesson.teacher.columns(batch, recipe.nodes_per_step, random)
        yield batch, columns, *lesson.teacher.dense(batch, columns)


def fit_maps(
    maps: Maps,
    lesson: MapLesson,
    recipe: AdapterSettings,
    name: str,
    progress: Callable[[str], None],
    checkpoint: Callable[[int], None] = lambda step: None,
) -> list[float]:
    """Train maps in place; return each epoch's mean loss.

    Args:
        name: of what is trained, for the progress lines.
        checkpoint: called `adapter.checkpoints` times with the step.
    """
    import torch
    from torch.nn import functional

    device = maps.device
    queries = torch.from_numpy(lesson.queries).to(device)
    vectors = torch.from_numpy(lesson.vectors)
    if vectors.nbytes <= _HELD * memory_gib(device) * 2**30:  # else each step's are sent
        vectors = vectors.to(device)
    steps = -(-len(queries) // recipe.batch_size) * recipe.epochs
    optimiser = torch.optim.AdamW(maps.parameters(), lr=recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=max(2, steps), pct_start=0.1
    )
    saved = {max(1, round(steps * (n + 1) / recipe.checkpoints)) for n in range(recipe.checkpoints)}
    random = np.random.default_rng(recipe.seed)
    losses, step = [], 0
    for epoch in range(recipe.epochs):
        total = []
        for batch, columns, target, own in _batches(lesson, recipe, random):
            rows, places = lesson.shown(columns)
            shown = vectors if len(rows) == len(vectors) else vectors[torch.from_numpy(rows)]
            shown = shown.to(device)
            student = _pooled(
                maps.queries(queries[torch.from_numpy(batch)]) @ maps.documents(shown).T, places
            )
            log_student = functional.log_softmax(student / recipe.student_temperature, dim=1)
            taught, sources = torch.from_numpy(target).to(device), torch.from_numpy(own).to(device)
            wanted = torch.softmax(taught / recipe.teacher_temperature, dim=1)
            distil = functional.kl_div(log_student, wanted, reduction="batchmean")
            # -1: a question that nobody labelled has no source
            known = functional.nll_loss(log_student, sources, ignore_index=-1, reduction="sum")
            source = known / len(batch)
            loss: torch.Tensor = distil + recipe.source_weight * source
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            step += 1
            total.append(loss.detach())
            if step in saved:
                checkpoint(step)
        losses.append(float(torch.stack(total).mean()))
        progress(f"{name}: epoch {epoch + 1}/{recipe.epochs}, loss {losses[-1]:.4f}")
    return losses


def _pooled(similarities: torch.Tensor, places: np.ndarray | None) -> torch.Tensor:
    """Return each item's best similarity, of shape (questions, items)."""
    import torch

    if places is None:
        return similarities
    index = torch.from_numpy(places).to(similarities.device).expand(len(similarities), -1)
    lowest = similarities.new_full((len(similarities), int(places[-1]) + 1), -2.0)
    return lowest.scatter_reduce(1, index, similarities, "amax")
