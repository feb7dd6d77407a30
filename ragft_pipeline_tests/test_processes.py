"""`ragft ui` ends with all that it started: processes of a session, however deep and stubborn."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# What `dagster dev` is like: a child that ends when told, and one of its own that takes its time.
_STUBBORN = """
import os, signal, subprocess, sys, time
place = sys.argv[1]
wait = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", wait])
open(place + ".new", "w").write(f"{os.getpid()} {child.pid}")
os.rename(place + ".new", place)
time.sleep(600)
"""
_PARENT = """
import sys
from ragft_pipeline.defs.processes import run_with_all_it_starts
sys.exit(run_with_all_it_starts([sys.executable, "-c", sys.argv[1], sys.argv[2]], 0.5))
"""


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_that_was_started(tmp_path: Path, number: signal.Signals) -> None:
    place = tmp_path / "started"
    command = [sys.executable, "-c", _PARENT, _STUBBORN, str(place)]
    with subprocess.Popen(command) as process:
        _wait_for(place, process)
        started = [int(word) for word in place.read_text().split()]
        assert all(map(_alive, started))
        process.send_signal(number)
        assert process.wait(60) == 0
    assert not any(map(_alive, started))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_a_command_that_ends_by_itself_leaves_nothing_either(tmp_path: Path) -> None:
    place = tmp_path / "started"
    failing = _STUBBORN.replace("time.sleep(600)\n", "sys.exit(3)\n")
    command = [sys.executable, "-c", _PARENT, failing, str(place)]
    assert subprocess.run(command, check=False).returncode == 3
    assert not any(map(_alive, map(int, place.read_text().split())))
