"""PostgreSQL, and machines of a team: each a home of its own, one storage, one store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from ragft_pipeline_tests.conftest import ROOT, Project, run_command
from ragft_pipeline_tests.corpora import prose, write_corpus
from ragft_pipeline_tests.deploy.postgres import Postgres, postgres_binaries

DEPLOY = ROOT / "deploy"


@dataclass
class Machine:
    """A machine of the team: its $DAGSTER_HOME and the variables of ragft.env."""

    home: Path
    environment: dict[str, str]

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start a program of the virtual environment, in a process group of its own."""
        return subprocess.Popen(
            [Path(sys.executable).parent / command[0], *command[1:]],
            cwd=ROOT, env={**os.environ, **self.environment, **variables}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def ragft(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command in this process, as on the machine."""
        return run_command(arguments, self.environment)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            with dg.DagsterInstance.from_config(str(self.home)) as instance:
                yield instance


@dataclass
class Team:
    """One corpus, one store and one database; `machines` have nothing else in common."""

    project: Project
    machines: tuple[Machine, Machine]

    @property
    def first(self) -> Machine:
        return self.machines[0]

    def write(self, seed: str, documents: int = 4) -> None:
        """Replace the corpus by other documents."""
        shutil.rmtree(self.project.corpus, ignore_errors=True)
        texts = {f"{n}.md": prose(f"{seed} {n}") for n in range(documents)}
        write_corpus(self.project.corpus, texts)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server programs (Debian's package postgresql)")
    server = Postgres(binaries)
    yield server
    server.remove()


@pytest.fixture
def team(postgres: Postgres, tmp_path: Path) -> Team:
    project = Project(tmp_path)
    project.configure()
    database = postgres.environment()

    def machine(name: str) -> Machine:
        home = tmp_path / name / "dagster"
        home.mkdir(parents=True)
        shutil.copyfile(DEPLOY / "dagster.yaml", home / "dagster.yaml")
        return Machine(
            home,
            {
                **database, "DAGSTER_HOME": str(home), "RAGFT_HEAVY_POOL": f"heavy-{name}",
                "RAGFT_SETTINGS": str(project.settings_file), "HF_HUB_OFFLINE": "1",
            },
        )  # fmt: skip

    made = Team(project, (machine("one"), machine("two")))
    made.write("first")
    return made
