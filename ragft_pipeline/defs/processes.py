"""A command that is run with all that it starts, and ends with all of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

_PATIENCE = 20.0  # seconds for processes to end by themselves


def run_with_all_it_starts(command: Sequence[str], patience: float = _PATIENCE) -> int:
    """Run a command until it ends or this process is told to end; then nothing of it is left.

    It has a session of its own, for `dagster dev` ends its servers, but neither a run under way
    nor the code server that waits for that run.

    Args:
        patience: seconds after which what has not ended is killed.
    """

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end_group(process, patience)


def _end_group(leader: subprocess.Popen[bytes], patience: float) -> None:
    end = time.monotonic() + patience
    with suppress(ProcessLookupError):  # raised once the group is empty
        os.killpg(leader.pid, signal.SIGTERM)
        while time.monotonic() < end:
            leader.poll()  # a process that was not waited for still counts
            os.killpg(leader.pid, 0)
            time.sleep(0.1)
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()
