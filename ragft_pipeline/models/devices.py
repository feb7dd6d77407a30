"""The device that models compute on, and how much it takes at once.

None of it is part of an identity: a card gives the vectors that a CPU gives, within rounding.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings import ComputeSettings

if TYPE_CHECKING:
    import torch

_CPU_TEXTS = 32  # more at once do not make a CPU faster
_SHARE = 0.1  # of a card's memory, that the states of a batch may take
_MOST_TOKENS = 1 << 17  # more do not make the largest cards faster
_PASSING, _KEPT = 16, 10  # times the width: what a token takes, and in each layer where all is kept
_HELD, _KEPT_THERE = 1 << 30, 30  # bytes that a step keeps on a CPU; the same, in attention too
_WIDTH, _LAYERS = 1024, 24  # of a model that does not say
_UNKNOWN_GIB = 8.0  # of memory, on a device that does not say


def pick_device(compute: ComputeSettings) -> str:
    """Return the torch device in force, and set the CPU thread count once.

    With `threads: 0` it is $OMP_NUM_THREADS, by which Ray says what a worker may use, else all
    cores. Raises RagftError where the settings name a device that is not there.
    """
    import torch

    allowed = os.environ.get("OMP_NUM_THREADS", "")
    threads = compute.threads or (int(allowed) if allowed.isdecimal() else os.cpu_count()) or 1
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if compute.device == "auto":
        return next((name for name, found in there.items() if found), "cpu")
    if not there.get(compute.device, True):
        raise RagftError(
            f"compute.device = {compute.device}: torch {torch.__version__} finds none here; "
            "auto takes what there is"
        )
    return compute.device


def pick_dtype(compute: ComputeSettings) -> torch.dtype:
    """Return the type that models compute in, as the settings say it."""
    import torch

    return torch.bfloat16 if compute.dtype == "bfloat16" else torch.float32


def texts_at_once(
    compute: ComputeSettings, tokens: int, transformer: Any = None, kept: bool = False
) -> int:
    """Return how many texts go through a model together.

    What `compute.batch_size` says, else 32 on a CPU (16 where all is kept) and what a card's memory
    has room for.

    Args:
        tokens: that a text has at most.
        transformer: the model, whose configuration says its width and layers.
        kept: whether all activations are kept, for a backward pass.
    """
    if compute.batch_size:
        return compute.batch_size
    device = pick_device(compute)
    if device == "cpu":
        return _CPU_TEXTS // 2 if kept else _CPU_TEXTS
    config = getattr(transformer, "config", None)
    width = getattr(config, "hidden_size", _WIDTH)
    each = 4 * width * (_KEPT * getattr(config, "num_hidden_layers", _LAYERS) if kept else _PASSING)
    room = min(_MOST_TOKENS, int(_SHARE * memory_gib(device) * 2**30 / each))
    return max(1, room // max(1, tokens))


def tokens_kept(compute: ComputeSettings, transformer: Any) -> int:
    """Return for how many tokens a training step keeps what its backward pass needs.

    A card's batches are by its memory already. On a CPU it is about 1 GB of activations: other
    programs want memory too, and what is not kept is computed again.
    """
    if pick_device(compute) != "cpu":
        return sys.maxsize
    config = getattr(transformer, "config", None)
    width = getattr(config, "hidden_size", _WIDTH)
    return _HELD // (4 * width * _KEPT_THERE * getattr(config, "num_hidden_layers", _LAYERS))


@lru_cache(maxsize=4)
def memory_gib(device: str) -> float:
    """Return how much memory a card has."""
    import torch

    if device.startswith("cuda"):
        return float(torch.cuda.get_device_properties(device).total_memory) / 2**30
    if device == "mps":
        return float(torch.mps.recommended_max_memory()) / 2**30
    return _UNKNOWN_GIB


def wait_for(device: str) -> None:
    """Wait until a device has done what it was asked: what is timed before is not yet computed."""
    import torch

    if device != "cpu":
        torch.accelerator.synchronize(device)
