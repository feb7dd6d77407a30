"""Machines that share a store on object storage; RAGFT_ROUNDS=20 for the long run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.schemas import LEDGER
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.conftest import SAMPLE, Project
from ragft_pipeline_tests.corpora import write_corpus
from ragft_pipeline_tests.equality import assert_same_version
from ragft_pipeline_tests.s3_server import Team
from ragft_pipeline_tests.test_concurrency import RACED

ROUNDS = int(os.environ.get("RAGFT_ROUNDS", "2"))
NAMES = [recipe.name for recipe in RACED]
_MACHINE = """
import sys
import sentence_transformers
from ragft_pipeline.cli import main
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import load_settings
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.store import ArtifactStore
settings = load_settings(sys.argv[2])
print("ready", flush=True)
for line in sys.stdin:
    version = SnapshotStore(ArtifactStore(settings.store)).freeze(settings).version
    for recipe in RECIPES:
        if recipe.name in sys.argv[3:]:
            materialize(recipe, settings, version, lambda s: print(s, flush=True))
    print("done", version, flush=True)
"""


class Machine(Project):
    """A project of one machine: documents of its own, the team's store."""

    def __init__(self, team: Team, name: str) -> None:
        super().__init__(team.folder / f"project-{name}")
        self.name = name
        self.team = team
        files = sorted((SAMPLE / "docs").rglob("*.md"))[::4][:8]
        write_corpus(self.corpus, {f.name: f.read_text(encoding="utf-8")[:1500] for f in files})
        sections = {"generators": [{"kind": "extractive"}]}
        self.configure(store=team.url, questions=sections, compute={"threads": 1})

    @property
    def store(self) -> ArtifactStore:
        return self.team.machine(self.name)

    def edit(self, line: str) -> None:
        file = sorted(self.corpus.glob("*.md"))[len(line) % 3]
        file.write_text(f"{file.read_text(encoding='utf-8')}\n\n{line}\n", encoding="utf-8")

    def start(self) -> subprocess.Popen[str]:
        return self.team.process(self.name, _MACHINE, str(self.settings_file), *NAMES)


def until_done(process: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """Return the version that a machine brought up to date, and what it said."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line.strip())
        if line.startswith("done"):
            return line.split()[1], said
    raise AssertionError(process.communicate()[1])


@pytest.fixture
def machines(team: Team) -> tuple[Machine, Machine]:
    return Machine(team, "a"), Machine(team, "b")


def rebuilt_alone(machine: Machine, versions: list[str], folder: Path) -> ArtifactStore:
    """Materialize versions in a folder that holds frozen documents alone."""
    for version in machine.snapshots.versions():  # the term statistics are of the first one
        for row in machine.snapshots.load(version).table(LEDGER).to_pylist():
            machine.snapshots.text(row["doc_key"])  # those that stand no more protect val and test
    alone = ArtifactStore(folder)
    for name in ("snapshots", "blobs"):
        shutil.copytree(machine.store.root / name, alone.root / name)
    settings = machine.settings.model_copy(update={"store": str(folder)})
    for version in versions:
        for recipe in RACED:
            materialize(recipe, settings, version)
    return alone


@pytest.mark.slow
def test_two_machines_materialize_different_versions_at_once(
    team: Team, machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    processes = [machine.start() for machine in machines]
    made: list[str] = []
    for number in range(ROUNDS):
        for machine, process in zip(machines, processes):
            machine.edit(f"Valve {number} of machine {machine.name} hangs in the plant room.")
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        both = [until_done(process) for process in processes]
        assert both[0][0] != both[1][0]
        made += [version for version, _ in both]
    for process in processes:
        process.kill()
        process.communicate()
    third = Machine(team, "c")
    assert sorted(made) == third.snapshots.versions()
    last = made[-2:]
    for version in made:
        for name in NAMES:
            assert third.store.read(version, name).path.is_dir()  # every digest is right
    assert_same_version(third.store, rebuilt_alone(third, last, tmp_path / "alone"), last[0], RACED)


def test_a_second_machine_computes_only_what_the_first_did_not(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGFT_CACHE", str(here.team.folder / "a"))
        version = here.snapshots.freeze(here.settings).version
        for recipe in RACED:
            assert materialize(recipe, here.settings, version).link.how == "computed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGFT_CACHE", str(there.team.folder / "b"))
        for recipe in RACED:
            assert materialize(recipe, there.settings, version).link.how == "reused"
        there.edit("The valve key hangs behind the door of the plant room.")
        second = there.snapshots.freeze(there.settings).version
        done = {r.name: materialize(r, there.settings, second).link for r in RACED[:11]}
    assert done["chunked_nodes"].facts["rows_computed"] == 1
    assert done["chunked_nodes"].facts["rows_reused"] == 7
    for name in ("train_qa_pairs", "val_qa_pairs", "test_qa_pairs"):
        link = done[name]
        assert link.how == "reused" or link.facts["rows_reused"] > link.facts["rows_computed"]


@pytest.mark.slow
def test_an_edit_moves_at_most_twice_what_it_writes(machines: tuple[Machine, Machine]) -> None:
    here = machines[0]

    def up_to_date() -> None:
        version = here.snapshots.freeze(here.settings).version
        for recipe in RACED:
            materialize(recipe, here.settings, version)

    def files() -> dict[int, int]:
        found = [file.stat() for file in here.store.root.rglob("*") if file.is_file()]
        return {facts.st_ino: facts.st_size for facts in found}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGFT_CACHE", str(here.team.folder / "a"))
        up_to_date()
        before, here.team.server.moved = files(), 0
        here.edit("The valve key hangs behind the door of the plant room.")
        up_to_date()
    written = sum(size for inode, size in files().items() if inode not in before)
    assert here.team.server.moved <= 2 * written


def test_commands_work_on_a_shared_store(machines: tuple[Machine, Machine]) -> None:
    here, there = machines
    assets = "corpus_snapshot,chunked_nodes,train_nodes,val_nodes,test_nodes"

    def ragft(machine: Machine, *arguments: str) -> str:
        environment = {"RAGFT_CACHE": str(machine.team.folder / machine.name)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAGFT_CACHE", environment["RAGFT_CACHE"])
            run = machine.ragft(*arguments)
        assert run.returncode == 0, run.stdout + run.stderr
        assert "not-to-be-seen" not in run.stdout + run.stderr
        return run.stdout

    first = ragft(here, "run", "--assets", assets)
    assert "chunked_nodes: computed" in first
    assert "chunked_nodes: reused" in ragft(there, "run", "--assets", assets)
    status = ragft(there, "status")
    assert f"MB in {here.team.url}" in status
    assert " train_nodes        computed" in status or " train_nodes        reused" in status
    assert "0 folders" in ragft(there, "gc", "--delete")
    assert "reached 0 models" in ragft(there, "taint", min(here.corpus.glob("*.md")).name)
    for path in here.team.folder.rglob("*.json"):
        assert "not-to-be-seen" not in json.dumps(path.read_text(encoding="utf-8"))
