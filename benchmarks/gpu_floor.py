"""What a device can do at best, and how long a stage must take on it at least.

A floor is the largest of three times: the operations over the measured rate of a matrix product of
the stage's number type, the bytes that must be read and written over the measured bandwidth of the
device's memory, and those that must be sent between it and the CPU over the measured rate of that.
Operations are of the matrices and of attention over the texts' own tokens, without padding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ragft_pipeline.models.devices import wait_for

_TRIES = 5
Found = TypeVar("Found")


@dataclass(frozen=True)
class Rates:
    """Measured: operations a second by number type, bytes a second of memory, and of sending."""

    products: dict[str, float]
    memory: float
    sending: float

    @classmethod
    def measured(cls, device: str, side: int) -> Rates:
        import torch

        products = {}
        for dtype in (torch.float32, torch.bfloat16):
            matrix = torch.randn(side, side, device=device).to(dtype)
            seconds = _best(device, lambda own=matrix: own @ own)  # type: ignore[misc]
            products[str(dtype).removeprefix("torch.")] = 2 * side**3 / seconds
        block = torch.zeros(16 * side * side, device=device)  # beyond any cache, at full size
        other = torch.empty_like(block)
        memory = 2 * block.nbytes / _best(device, lambda: other.copy_(block))
        sent = block[: side * side]
        sending = memory if device == "cpu" else sent.nbytes / _best(device, sent.cpu)
        return cls(products, memory, sending)

    def __str__(self) -> str:
        rates = [f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in self.products.items()]
        rates += [f"memory {self.memory / 1e9:.0f} GB/s", f"sending {self.sending / 1e9:.1f} GB/s"]
        return ", ".join(rates)


@dataclass(frozen=True)
class Work:
    """What a stage has to do: operations, bytes of its device's memory, bytes sent."""

    operations: float
    memory: float = 0.0
    sent: float = 0.0

    def floor(self, rates: Rates, dtype: str) -> tuple[float, str]:
        """Return the least seconds, and what bounds them."""
        return max(
            (self.operations / rates.products[dtype], "products"),
            (self.memory / rates.memory, "memory"),
            (self.sent / rates.sending, "sending"),
        )


def timed(device: str, run: Callable[..., Found], *given: Any) -> tuple[Found, float]:
    """Return what comes out, and the seconds until a device has done it."""
    wait_for(device)
    start = time.perf_counter()
    found = run(*given)
    wait_for(device)
    return found, time.perf_counter() - start


def _best(device: str, run: Callable[[], Any]) -> float:
    run()
    return min(timed(device, run)[1] for _ in range(_TRIES))


def forward_operations(model: Any, lengths: Sequence[int]) -> float:
    """Return the operations of a transformer over texts of these lengths."""
    import torch

    linear = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    matrices = sum(part.weight.numel() for part in linear)
    tokens = np.asarray(lengths, float)
    config = model.config
    attention = 4 * config.hidden_size * config.num_hidden_layers * (tokens**2).sum()
    return float(2 * matrices * tokens.sum() + attention)


def parameters_of(model: Any) -> int:
    """Return how many numbers a model has."""
    return sum(part.numel() for part in model.parameters())


def lengths_of(tokenizer: Any, texts: Sequence[str], most: int) -> list[int]:
    """Return how many tokens each text has, cut at `most`."""
    found = tokenizer(list(texts), truncation=True, max_length=most)["input_ids"]
    return [len(ids) for ids in found]
