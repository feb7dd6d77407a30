"""A real PostgreSQL server for tests, in a temporary folder, on a loopback port of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

USER = "ragft"


def postgres_binaries() -> Path | None:
    """Return the folder of PostgreSQL's server programs, or None where there are none."""
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    return max((bin for bin in debian if (bin / "initdb").exists()), default=None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """A server that asks for a password; it does not run as root, so root's tests use nobody."""

    def __init__(self, binaries: Path) -> None:
        self.binaries = binaries
        self.folder = Path(tempfile.mkdtemp(prefix="ragft-postgres-", dir="/tmp"))
        self.port = free_port()
        self.password = f"p@s/w:%d#{secrets.token_urlsafe(12)}"  # what a URL must escape
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody")
            self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        password_file = self.folder / "password"
        password_file.write_text(self.password, encoding="utf-8")
        self._call(
            "initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", "-E", "UTF8",
            "--locale=C", "--no-sync", f"--pwfile={password_file}",
        )  # fmt: skip
        self.start()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
            " -c fsync=off -c max_connections=60"
        )
        self._call(
            "pg_ctl", "start", "-w", "-D", self._data, "-l", self.folder / "log", "-o", options
        )

    def stop(self) -> None:
        """Stop at once, as a crash does: every connection is cut."""
        self._call("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self._data)

    def environment(self) -> dict[str, str]:
        """Make a database; return the variables that deploy/dagster.yaml reads."""
        name = f"team_{uuid.uuid4().hex[:8]}"
        variables = {
            "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": USER,
            "PGPASSWORD": self.password, "PGDATABASE": name,
        }  # fmt: skip
        self._call("psql", "-d", "postgres", "-qc", f"create database {name}", variables=variables)
        return variables

    def _call(self, program: str, *arguments: Any, variables: dict[str, str] | None = None) -> None:
        done = subprocess.run(
            [self.binaries / program, *arguments], cwd=self.folder, text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", **(variables or {})}, **self._as,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    def remove(self) -> None:
        subprocess.run(
            [self.binaries / "pg_ctl", "stop", "-m", "immediate", "-D", self._data],
            cwd=self.folder, capture_output=True, check=False, **self._as,
        )  # fmt: skip
        shutil.rmtree(self.folder, ignore_errors=True)
