"""Threads in each of which torch computes alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier


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
