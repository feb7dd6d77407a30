"""The memory that a computation no longer uses, given back to the system."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# oneDNN keeps what it compiles for each shape of a product, 1,024 of them by itself: 200 MB and
# more after a training, in which hardly a shape returns once its step is over.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

atexit.register(gc.unfreeze)  # libraries count at exit what was never let go


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Have the collector look for circles after 50,000 new objects, not 700.

    Rows as Python objects make none, and looking through them takes a tenth of a step's time. Not
    for a training: what an optimiser's step leaves in circles is large.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


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
