"""What trainings share: no dropout, weights that travel, progress lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch


def weights_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Return a copy of a model's weights as arrays, which travel between processes."""
    return {name: tensor.cpu().numpy().copy() for name, tensor in model.state_dict().items()}


def set_weights(model: torch.nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Give a model the weights of another of its kind."""
    import torch

    model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})


def switch_off_dropout(model: Any) -> None:
    """Set every dropout of a model to 0.

    One epoch over a small corpus has little to overfit, and on a CPU attention with dropout takes
    the slow path: a step is about 3 times faster without.
    """
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout_prob", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def on_one_device(arguments: Any) -> Any:
    """Return a Trainer's arguments, kept to one card.

    Without a process group it would spread each step over all cards of the machine, so a step had
    as many times the examples that it was planned with.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def report_to(trainer: Any, name: str, report: Callable[[str], None]) -> None:
    """Send a Trainer's losses and evaluations to `report`, instead of printing them."""
    from transformers import PrinterCallback, TrainerCallback

    class Progress(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            shown = {k: v for k, v in (logs or {}).items() if k == "loss" or "ndcg" in k}
            values = ", ".join(f"{k} {float(v):.4f}" for k, v in shown.items())
            if values:
                report(f"{name}: step {state.global_step}/{state.max_steps}, {values}")

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress())
