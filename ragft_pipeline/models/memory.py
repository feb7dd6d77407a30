"""The memory that a computation no longer uses, given back to the system."""

from __future__ import annotations

import atexit
import ctypes
import gc
import sys

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
    """Have glibc return what is free; elsewhere it is nothing.

    It keeps freed pieces for later, and texts of other lengths need pieces of other sizes: within
    some batches it would hold as much again as is in use. It takes milliseconds.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
