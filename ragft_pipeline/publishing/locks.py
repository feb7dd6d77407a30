"""One writer at a time: a lock of this machine, given back however its process ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import TransientError


@contextmanager
def only_writer(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of a collection; TransientError where another process holds it.

    Args:
        folder: of the locks; all who write must share it.
        name: of the store and the collection.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"publishing-{digest_of(name)[:16]}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise TransientError(f"{name}: another process is publishing; wait for it") from None
    try:
        yield
    finally:
        lock.release()
