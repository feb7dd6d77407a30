"""The number type that models train and answer in: the faster one on this machine.

It is part of no action's identity; what keeps rows by it names it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ragft_pipeline.models.devices import pick_device, pick_dtype
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


@contextmanager
def attention_in_training(compute: ComputeSettings) -> Iterator[None]:
    """Train attention the faster way: on a CPU in bfloat16, by plain products in that type.

    The fused kernel's way back doubles a step; in float32, as torch would have them, the products
    cost a third more and keep twice as much. The switch is torch's for all devices.
    """
    import torch
    from torch.backends import cuda
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if pick_device(compute) != "cpu" or faster_dtype(compute) != torch.bfloat16:
        yield
        return
    before = cuda.fp16_bf16_reduction_math_sdp_allowed()
    cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        cuda.allow_fp16_bf16_reduction_math_sdp(before)


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
