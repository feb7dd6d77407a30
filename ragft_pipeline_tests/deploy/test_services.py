"""The three services, by the commands of their units, on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ragft_pipeline_tests.conftest import ROOT
from ragft_pipeline_tests.deploy.conftest import DEPLOY, Team
from ragft_pipeline_tests.deploy.postgres import free_port
from ragft_pipeline_tests.deploy.test_storage import LIGHT, data_versions, freeze, recorded
from ragft_pipeline_tests.deploy.units import command

LOCATION = {"repositoryLocationName": "ragft_pipeline", "repositoryName": "__repository__"}
LAUNCH = """mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on InvalidSubsetError { message } } }"""
STOP = "mutation ($id: String!) { stopSensor(id: $id) { __typename } }"
SENSORS = """query ($selector: RepositorySelector!) {
  sensorsOrError(repositorySelector: $selector) { ... on Sensors { results { id } } } }"""


class Services:
    """The code server, the daemon and the webserver of a machine."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.folder = Path(
            tempfile.mkdtemp(prefix="ragft-", dir="/tmp")
        )  # a socket's path is short
        self.port = free_port()
        workspace = (DEPLOY / "workspace.yaml").read_text(encoding="utf-8")
        (self.folder / "workspace.yaml").write_text(self._here(workspace), encoding="utf-8")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.groups: list[int] = []
        for service in ("ragft-code", "ragft-daemon", "ragft-webserver"):
            self.start(service)

    def _here(self, text: str) -> str:
        text = text.replace("/run/ragft", str(self.folder)).replace("/etc/ragft", str(self.folder))
        return str(self.port) if text == "3000" else text

    def start(self, service: str) -> None:
        with (self.folder / f"{service}.log").open("ab") as log:
            self.processes[service] = subprocess.Popen(
                [self._here(part) for part in command(service)],
                cwd=ROOT, env={**os.environ, **self.team.first.environment}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.groups.append(self.processes[service].pid)

    def restart_code_server(self) -> None:
        """Do at once what systemd does with KillMode=process after TimeoutStopSec."""
        self.processes["ragft-code"].kill()
        self.processes["ragft-code"].wait()
        self.start("ragft-code")

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data

    def sensors(self) -> list[dict[str, str]]:
        """Return the sensors of the code location, once it is loaded."""
        try:
            found = self.ask(SENSORS, selector=LOCATION)["sensorsOrError"].get("results", [])
        except OSError:
            return []
        return list(found)

    def logs(self) -> str:
        return "\n".join(file.read_text("utf-8") for file in self.folder.glob("*.log"))

    def remove(self) -> None:
        for group in self.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for process in self.processes.values():
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def until(condition: Callable[[], Any], services: Services, seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(services.logs())


@pytest.fixture
def services(team: Team) -> Iterator[Services]:
    assert sys.platform == "linux"
    with team.first.instance():
        pass  # the tables are there before three services ask for them
    running = Services(team)
    yield running
    running.remove()


def launch(services: Services, version: str) -> str:
    params = {
        "mode": "default",
        "selector": {
            **LOCATION, "jobName": "corpus_version_job",
            "assetSelection": [{"path": [asset]} for asset in LIGHT],
        },
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": version}]},
    }  # fmt: skip
    answers: list[Any] = []

    def accepted() -> bool:
        """Ask; for a moment after a restart the webserver asks a code server that has gone."""
        try:
            answers.append(services.ask(LAUNCH, params=params)["launchRun"])
        except OSError as error:
            answers.append({"__typename": str(error)})
        return bool(answers[-1]["__typename"] == "LaunchRunSuccess")

    try:
        until(accepted, services, seconds=60)
    except AssertionError as error:
        raise AssertionError(answers[-1]) from error
    return str(answers[-1]["run"]["runId"])


@pytest.mark.slow
def test_the_queue_s_runs_outlive_their_code_server(services: Services, team: Team) -> None:
    for sensor in until(services.sensors, services):
        services.ask(STOP, id=sensor["id"])  # they would train what is frozen here
    team.write("long", documents=120)  # so that the run is not over before the restart
    version = freeze(team.first)
    run_id = launch(services, version)
    with team.first.instance() as instance:

        def status() -> dg.DagsterRunStatus:
            run = instance.get_run_by_id(run_id)
            assert run is not None
            return run.status

        until(lambda: status() == dg.DagsterRunStatus.STARTED, services)
        services.restart_code_server()
        assert status() == dg.DagsterRunStatus.STARTED
        until(lambda: status() == dg.DagsterRunStatus.SUCCESS, services)
        assert data_versions(team.first, version) == recorded(team, version)
        again = launch(services, version)  # the new server takes the next
        until(lambda: (run := instance.get_run_by_id(again)) and run.is_success, services)
