"""`ragft ui` over a project: the real `dagster dev` with its daemon, asked through GraphQL."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import requests

from ragft_pipeline_tests.conftest import ROOT

T = TypeVar("T")
FINISHED = ("SUCCESS", "FAILURE", "CANCELED")

_RUNS = """{ runsOrError { ... on Runs {
    results { runId status tags { key value } assetSelection { path } } } } }"""
_PARTITIONS = """{ assetNodes(assetKeys: [{path: ["corpus_snapshot"]}]) { partitionKeys } }"""
_MATERIALIZED = """query($version: [String!]) { assetNodes { assetKey { path } isMaterializable
    assetMaterializations(partitions: $version, limit: 1) { runId } } }"""
_STATUS = """{ assetNodes(assetKeys: [{path: ["corpus_status"]}]) {
    assetMaterializations(limit: 1) { metadataEntries {
        label ... on MarkdownMetadataEntry { mdStr } } } } }"""
_FAILED_TICKS = """{ repositoriesOrError { ... on RepositoryConnection { nodes { sensors {
    name sensorState { ticks(statuses: [FAILURE]) { error { message } } } } } } } }"""


@dataclass(frozen=True)
class Run:
    """A run as the UI lists it."""

    id: str
    status: str
    tags: dict[str, str]
    assets: frozenset[str]

    @property
    def version(self) -> str:
        return self.tags.get("dagster/partition", "")


class ServedUI:
    """A context in which `ragft ui` runs on a free port of this machine.

    Args:
        environment: what names the project: RAGFT_SETTINGS, RAGFT_STORE.
    """

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.environment = environment
        self.log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ServedUI:
        own = ("DAGSTER_HOME", "RAGFT_STORE", "RAGFT_SETTINGS")
        environment = {name: value for name, value in os.environ.items() if name not in own}
        environment |= {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **self.environment}
        program = "import sys; from ragft_pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, "ui", "--port", str(self.port)],
                cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            self.wait_for("the web server", self._answers, seconds=180)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def _answers(self) -> bool:
        try:
            return bool(self.ask(_PARTITIONS)["assetNodes"])
        except (requests.RequestException, ValueError):
            return False

    def wait_for(self, what: str, condition: Callable[[], T | None], seconds: float) -> T:
        """Return the condition's first true value; fail after so many seconds, with the log's end.

        Fails at once when the served process has ended.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if value := condition():
                return value
            time.sleep(2)
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise AssertionError(f"no {what} within {seconds:.0f} s; `ragft ui` said:\n{tail}")

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of a GraphQL answer; an answer with errors is an AssertionError."""
        answer = requests.post(
            f"{self.address}/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        assert "errors" not in answer, answer["errors"]
        return dict(answer["data"])

    def runs(self) -> list[Run]:
        """Return all runs, the newest first."""
        return [
            Run(
                row["runId"],
                row["status"],
                {tag["key"]: tag["value"] for tag in row["tags"]},
                frozenset(".".join(key["path"]) for key in row["assetSelection"] or []),
            )
            for row in self.ask(_RUNS)["runsOrError"]["results"]
        ]

    def versions(self) -> list[str]:
        """Return the partitions that Dagster knows, the oldest first."""
        return list(self.ask(_PARTITIONS)["assetNodes"][0]["partitionKeys"])

    def materialized(self, version: str) -> dict[str, str | None]:
        """Return the run that last materialized each asset for a version, None where none did."""
        return {
            ".".join(node["assetKey"]["path"]): next(
                (event["runId"] for event in node["assetMaterializations"]), None
            )
            for node in self.ask(_MATERIALIZED, version=[version])["assetNodes"]
            if node["isMaterializable"]
        }

    def status(self) -> dict[str, dict[str, str]]:
        """Return the newest table of `corpus_status`: version to asset to state."""
        events = self.ask(_STATUS)["assetNodes"][0]["assetMaterializations"]
        entries = {entry["label"]: entry.get("mdStr", "") for entry in events[0]["metadataEntries"]}
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in entries["ragft/status"].splitlines()
        ]
        (_, *versions), body = rows[0], rows[2:]
        names = [version.split()[0].strip("*") for version in versions]
        return {name: {row[0]: row[i] for row in body} for i, name in enumerate(names, start=1)}

    def failed_ticks(self) -> list[str]:
        """Return what went wrong in sensors, a line a failed tick."""
        repositories = self.ask(_FAILED_TICKS)["repositoriesOrError"]["nodes"]
        return [
            f"{sensor['name']}: {tick['error']['message']}"
            for repository in repositories
            for sensor in repository["sensors"]
            for tick in sensor["sensorState"]["ticks"]
        ]
