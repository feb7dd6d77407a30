"""Runs whose process on this machine is gone.

Nobody sees a process of `ragft` die: its run would stay in progress for ever, keep its place in the
pool from every machine, and keep automation from its assets. So each run holds a lock, which the
system releases however the process ends, and the next one ends the runs whose lock is free.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from filelock import FileLock, Timeout

_FOLDER = "running"


@contextmanager
def holding(home: Path, run_id: str) -> Iterator[None]:
    """Say, for as long as this process lives, that it has the run."""
    file = _file(home, run_id)
    with FileLock(file):
        yield
        file.unlink(missing_ok=True)


def end_dead_runs(instance: dg.DagsterInstance, home: Path) -> None:
    """Cancel the runs whose process is gone and free their places in the pools."""
    for file in (home / _FOLDER).glob("*.lock"):
        try:
            with FileLock(file, blocking=False):
                _end(instance, file.stem)
                file.unlink(missing_ok=True)
        except Timeout:
            continue  # its process lives


def _end(instance: dg.DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_canceled(run, "The process of this run ended without finishing it.")
    instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def _file(home: Path, run_id: str) -> Path:
    folder = home / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{run_id}.lock"
