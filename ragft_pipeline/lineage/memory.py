"""The memory that a step no longer uses, given back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back() -> None:
    """Let go of what lies in circles, and have glibc return what is free; elsewhere it is nothing.

    glibc keeps freed pieces for later, and threads and steps each use other ones: a run of many
    steps would hold what all of them once needed.
    """
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
