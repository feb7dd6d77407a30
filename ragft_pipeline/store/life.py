"""Whether a folder in staging is in use: a lock says so for as long as its process lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_LOCKS = "locks"  # a folder beside staging


def at_work(name: str, version: str) -> str:
    """Return a name for a staging folder in which something is made for a corpus version."""
    return f"{name}@{version}"


def made_for(folder: Path) -> str:
    """Return the corpus version that a folder of such a name is made for, "" for any other."""
    return folder.name.partition("@")[2].rpartition("-")[0]


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Say that a folder is in use; the system takes it back however the process ends."""
    lock = _lock(folder)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield
        lock.unlink(missing_ok=True)


def is_in_use(folder: Path) -> bool:
    """Whether a process of this machine uses a folder."""
    lock = _lock(folder)
    if not lock.is_file():
        return False
    try:
        with FileLock(lock, blocking=False):
            lock.unlink(missing_ok=True)  # of a process that was killed
            return False
    except Timeout:
        return True


def _lock(folder: Path) -> Path:
    return folder.parent.with_name(_LOCKS) / f"{folder.name}.lock"
