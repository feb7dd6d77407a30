"""What a step fetches: on a card each number is a wait for all that was asked of it before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ragft_pipeline import schemas
from ragft_pipeline.settings import AdapterSettings, ComputeSettings, TunedEmbedderSettings
from ragft_pipeline.tuning import towers
from ragft_pipeline.tuning.data import Questions
from ragft_pipeline.tuning.maps import MapLesson, Maps, fit_maps
from ragft_pipeline.tuning.teacher import TeacherLists

WIDTH, ROWS = 8, 6


class Fetches(TorchDispatchMode):
    """Counts the numbers that are read out of tensors (`item`, `float`, `bool`)."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.number += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def teacher() -> TeacherLists:
    names = [str(row) for row in range(ROWS)]
    scores = np.linspace(1, 0, ROWS).tolist()
    rows = [{"question_id": name, "node_ids": names, "scores": scores} for name in names]
    table = pa.Table.from_pylist(rows, schema=schemas.TEACHER_SCORES.schema)
    return TeacherLists(table, Questions(names, names, names), names)


def vectors() -> np.ndarray:
    return np.random.default_rng(0).random((ROWS, WIDTH), np.float32)


@pytest.mark.parametrize("starts", [None, np.arange(ROWS + 1)])
def test_maps_fetch_a_loss_an_epoch(
    starts: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(parameters: Any, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """AdamW reads its counters of steps, which are on the CPU wherever the model is."""
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay)

    monkeypatch.setattr(torch.optim, "AdamW", plain)
    recipe = AdapterSettings(batch_size=2, epochs=3, checkpoints=1)
    with Fetches() as fetches:
        losses = fit_maps(
            Maps(recipe, WIDTH), MapLesson(vectors(), vectors(), teacher(), starts),
            recipe, "maps", lambda line: None,
        )  # fmt: skip
    assert fetches.number == len(losses) == 3


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("one_sided", [False, True])
def test_a_step_of_the_towers_fetches_nothing(
    accumulate: bool, one_sided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = torch.nn.Linear(WIDTH, WIDTH)
    model.transformers_model = None
    recipe = TunedEmbedderSettings(accumulate=accumulate, matryoshka=(4,))
    own = towers.Towers(model, recipe, ComputeSettings(batch_size=4))
    monkeypatch.setattr(
        own, "_features", lambda texts: {"input_ids": torch.ones(len(texts), WIDTH)}
    )
    monkeypatch.setattr(own, "_vectors", lambda features: model(features["input_ids"]))
    texts = [f"text {row}" for row in range(ROWS)]
    lesson = towers.Lesson(texts, texts, np.arange(ROWS), vectors(), teacher())
    with Fetches() as fetches:
        loss = towers._add_gradients(
            own, lesson, (np.arange(3), np.arange(ROWS)), recipe, one_sided
        )
    assert fetches.number == 0
    assert float(loss) > 0
    assert model.weight.grad is not None
