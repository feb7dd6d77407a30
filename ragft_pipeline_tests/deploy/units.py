"""The systemd units as they are: settings by name, and commands for this virtual environment."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from ragft_pipeline_tests.deploy.conftest import DEPLOY

UNITS = DEPLOY / "systemd"
INSTALLED = "/opt/ragft/.venv/bin"
SERVICES = ("ragft-code", "ragft-daemon", "ragft-webserver", "ragft-backfill@")


def settings(service: str) -> dict[str, list[str]]:
    """Return the values of every setting of a service, with what all units share."""
    found: dict[str, list[str]] = {}
    for file in (UNITS / "ragft-.service.d/common.conf", UNITS / f"{service}.service"):
        for line in file.read_text(encoding="utf-8").splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                found.setdefault(name, []).append(value)
    return found


def command(service: str) -> list[str]:
    """Return ExecStart with this virtual environment in the place of the installed one."""
    (line,) = settings(service)["ExecStart"]
    program, *arguments = shlex.split(line)
    assert Path(program).parent == Path(INSTALLED)
    return [str(Path(sys.executable).parent / Path(program).name), *arguments]
