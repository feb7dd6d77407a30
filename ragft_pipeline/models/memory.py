"""The memory that a computation no longer uses, given back to the system."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys

# oneDNN keeps what it compiles for each shape of a product, 1,024 of them by itself: 200 MB and
# more after a training, in which hardly a shape returns once its step is over.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

atexit.register(gc.unfreeze)  # libraries count at exit what was never let go


def give_back() -> None:
    """Let go of what lies in circles, and trim: a run of many steps holds what it uses now.

    What is left, modules above all, is not looked at again: to go through their objects takes most
    of a second.
    """
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """Have glibc and Arrow return what is free; elsewhere than on Linux Arrow alone.

    They keep freed pieces for later, and texts of other lengths need pieces of other sizes: within
    some batches they would hold as much again as is in use. It takes milliseconds.
    """
    if arrow := sys.modules.get("pyarrow"):
        arrow.default_memory_pool().release_unused()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
