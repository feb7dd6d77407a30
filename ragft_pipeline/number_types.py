"""The number type that models train and answer in: the faster one on this machine.

It is part of no action's identity; what keeps rows by it names it.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ragft_pipeline.devices import pick_device, pick_dtype
from ragft_pipeline.settings import ComputeSettings

if TYPE_CHECKING:
    import torch


def faster_dtype(compute: ComputeSettings) -> torch.dtype:
    """Return the type that models are trained and answer in, which is part of no identity.

    bfloat16 where the settings say it, or this machine multiplies it faster; a card that has none
    (before NVIDIA's compute capability 8.0) takes float32, whatever they say.
    """
    import torch

    device = pick_device(compute)
    if device == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_it else torch.float32
    faster = device == "cpu" and _cpu_is_faster_in_bfloat16()
    return torch.bfloat16 if faster else pick_dtype(compute)


def autocast(compute: ComputeSettings) -> AbstractContextManager[Any]:
    """Return the context in which float32 models multiply in `faster_dtype`."""
    import torch

    dtype = faster_dtype(compute)
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(pick_device(compute), dtype)


def attention_in_training(compute: ComputeSettings) -> AbstractContextManager[Any]:
    """Return the context in which attention is trained the faster way.

    On a CPU the fused kernel's way back takes twice as long in bfloat16 as the products do.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if pick_device(compute) == "cpu" and faster_dtype(compute) == torch.bfloat16:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


@lru_cache(maxsize=1)
def _cpu_is_faster_in_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 clearly faster; a matter of milliseconds."""
    import torch

    def seconds(dtype: torch.dtype) -> float:
        left, right = (torch.ones((512, 512), dtype=dtype) for _ in range(2))
        tries = []
        for _ in range(8):
            start = time.perf_counter()
            torch.nn.functional.linear(left, right)
            tries.append(time.perf_counter() - start)
        return min(tries)

    return seconds(torch.bfloat16) < seconds(torch.float32) / 1.5
