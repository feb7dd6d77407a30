"""Threads in each of which torch computes alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import TypeVar

Result = TypeVar("Result")


def lone_threads(number: int) -> ThreadPoolExecutor:
    """Return a pool of threads in which torch computes with one thread.

    `torch.set_num_threads` holds for the thread that calls it, and for every thread that is born
    afterwards; so all of the pool's are born here, and the number for later ones is set back.
    """
    import torch

    threads, born = torch.get_num_threads(), Barrier(number + 1)

    def alone() -> None:
        torch.get_num_threads()  # a thread's first look takes the number of all: before, not after
        torch.set_num_threads(1)
        born.wait()

    pool = ThreadPoolExecutor(number, thread_name_prefix="lone", initializer=alone)
    for _ in range(number):
        pool.submit(int)
    born.wait()
    torch.set_num_threads(threads)
    return pool


def on_one_thread(work: Callable[[], Result]) -> Result:
    """Run a question's work where torch computes with one thread.

    One question is too little to share: on idle cores two threads are no faster, and on busy ones
    they wait for each other at every product, thirty times as long as the work takes.
    """
    return _lone_thread(os.getpid()).submit(work).result()


@lru_cache(maxsize=1)
def _lone_thread(process: int) -> ThreadPoolExecutor:
    """Return the thread of a process; a forked one has none of its parent's."""
    return lone_threads(1)
