"""Several processes on one store at once: the same version, the same freeze, a clean-up beside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ragft_pipeline.cli import main
from ragft_pipeline.lineage.steps import Recipe, materialize
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.store import ArtifactStore, rows
from ragft_pipeline_tests.conftest import ROOT, SAMPLE, VERSIONS, Project
from ragft_pipeline_tests.corpora import write_corpus
from ragft_pipeline_tests.equality import assert_same_version
from ragft_pipeline_tests.store.test_rows import Lengths, complete

DATA = RECIPES[: [recipe.name for recipe in RECIPES].index("router_questions") + 1]
RACED = (*DATA, *(recipe for recipe in RECIPES if recipe.name == "embedding_adapter"))
WORKER = """
import json, sys
from pathlib import Path
import llama_index.core, sentence_transformers
from ragft_pipeline.cli import main
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import load_settings
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.store.test_rows import Lengths, complete

def make(settings, version, names):
    for recipe in RECIPES:
        if recipe.name in names:
            materialize(recipe, load_settings(settings), version, lambda s: print(s, flush=True))

def ragft(*arguments):
    assert main(arguments) == 0

def fill_rows(root, rounds):
    for number in range(rounds):
        units = [str(n) for n in range(4 * number, 4 * number + 12)]
        result = complete(ArtifactStore(Path(root)), f"a{number}", units, Lengths())
        assert result == {unit: len(unit) for unit in units}

print("ready", flush=True)
for line in sys.stdin:
    name, *arguments = json.loads(line)
    globals()[name](*arguments)
    print("done", flush=True)
"""


class Worker:
    """A process that has imported what is heavy and does one thing after another."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        environment.pop("DAGSTER_HOME", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def begin(self, *task: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()

    def wait_for(self, text: str) -> list[str]:
        """Return the lines said until one holds the text; a worker that dies fails the test."""
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line.strip())
            if text in line:
                return said
        raise AssertionError(self.process.communicate()[1])


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    both = [Worker(), Worker()]
    for worker in both:
        worker.wait_for("ready")
    yield both
    for worker in both:
        worker.process.kill()
        worker.process.communicate()


def race(workers: list[Worker], *task: Any) -> list[list[str]]:
    """Have all do the same at the same moment; return what each said."""
    for worker in workers:
        worker.begin(*task)
    return [worker.wait_for("done") for worker in workers]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    files = sorted((SAMPLE / "docs").rglob("*.md"))[::4][:8]
    write_corpus(project.corpus, {f.name: f.read_text(encoding="utf-8")[:1500] for f in files})
    project.configure(questions={"generators": [{"kind": "extractive"}]}, compute={"threads": 1})
    return project


def freeze(project: Project) -> str:
    return project.snapshots.freeze(project.settings).version


def change(project: Project) -> None:
    file = min(project.corpus.glob("*.md"))
    text = file.read_text(encoding="utf-8")
    file.write_text(f"{text}\n\nThe valve key hangs behind the door of the plant room.\n")


def run_alone(
    project: Project, versions: Sequence[str], recipes: Sequence[Recipe]
) -> ArtifactStore:
    """Materialize versions in this process, in a store that holds frozen documents alone."""
    store = ArtifactStore(project.folder / "alone")
    for name in ("snapshots", "blobs"):
        shutil.copytree(project.store.root / name, store.root / name)
    settings = project.settings.model_copy(update={"store": str(store.root)})
    for version in versions:
        for recipe in recipes:
            materialize(recipe, settings, version)
    return store


def assert_clean(store: ArtifactStore) -> None:
    """Nothing is staged, and no temporary file lies where results are."""
    assert [path for path in (store.root / "staging").rglob("*") if path.name != "rows"] == []
    results = [*(store.root / "artifacts").rglob("*"), *(store.root / "versions").rglob("*")]
    assert [path for path in results if path.name.startswith(".")] == []


@pytest.mark.slow
def test_two_processes_materialize_one_version(workers: list[Worker], project: Project) -> None:
    version = freeze(project)
    names = [recipe.name for recipe in RACED]
    said = race(workers, "make", str(project.settings_file), version, names)
    for lines in said:
        assert {line.split(":")[0] for line in lines} >= set(names)
    computing = [{line for line in lines if line.endswith(": computing")} for lines in said]
    assert computing[0] & computing[1]  # they did meet
    store = project.store
    for name in names:
        (folder,) = (store.root / "artifacts" / name).iterdir()  # one action, one artifact
        assert store.read(version, name).path == folder  # and the link leads there
    assert_clean(store)
    assert (store.read(version, "embedding_adapter").model / "trained_on.json").is_file()
    assert_same_version(store, run_alone(project, [version], RACED), version, RACED)


@pytest.mark.slow
def test_two_processes_share_rows_without_harm(workers: list[Worker], tmp_path: Path) -> None:
    race(workers, "fill_rows", str(tmp_path), 30)
    assert len(list((tmp_path / "artifacts/words").iterdir())) == 30
    assert_clean(ArtifactStore(tmp_path))


def staged_by_a_dead_run(root: Path) -> tuple[ArtifactStore, list[str]]:
    store, words = ArtifactStore(root), list("abcdef")
    with pytest.raises(RuntimeError, match="memory"):
        complete(store, "dead", words, Lengths(fail_at="e"))
    return store, words


def publish_elsewhere(store: ArtifactStore, words: list[str]) -> None:
    """Do as another process that takes the staged rows over and publishes them."""
    complete(store, "other", words, Lengths())
    assert not list((store.root / "staging").rglob("*.parquet"))


def assert_all_found(store: ArtifactStore, words: list[str]) -> None:
    lengths = Lengths()
    assert len(complete(store, "own", words, lengths)) == 6
    assert lengths.asked == []


def test_staged_rows_that_another_process_publishes_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, words = staged_by_a_dead_run(tmp_path)
    listing = Path.glob

    def glob_then_lose(self: Path, pattern: str, **options: Any) -> Iterator[Path]:
        found = list(listing(self, pattern, **options))
        if any("staging" in path.parts for path in found) or "lengths-" in pattern:
            monkeypatch.setattr(Path, "glob", listing)
            publish_elsewhere(store, words)  # between this process's two listings
        return iter(found)

    monkeypatch.setattr(Path, "glob", glob_then_lose)
    assert_all_found(store, words)


def test_the_folder_of_staged_rows_may_vanish_while_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, words = staged_by_a_dead_run(tmp_path)
    scan = os.scandir

    def lose_then_scan(path: Any = ".") -> Any:
        if Path(path).parent.name == "rows":
            monkeypatch.setattr(os, "scandir", scan)
            publish_elsewhere(store, words)
        return scan(path)

    monkeypatch.setattr(os, "scandir", lose_then_scan)
    assert_all_found(store, words)


def test_staged_rows_may_vanish_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, words = staged_by_a_dead_run(tmp_path)
    select = rows.find_rows

    def select_then_lose(*arguments: Any) -> Any:
        found = select(*arguments)
        monkeypatch.setattr(rows, "find_rows", select)
        publish_elsewhere(store, words)
        return found

    monkeypatch.setattr(rows, "find_rows", select_then_lose)
    assert_all_found(store, words)


@pytest.mark.slow
def test_two_processes_freeze_and_run_one_version(workers: list[Worker], project: Project) -> None:
    first = freeze(project)
    change(project)
    settings = str(project.settings_file)
    said = race(workers, "ragft", "--settings", settings, "freeze")  # and both make Dagster's home
    versions = project.snapshots.versions()
    assert len(versions) == 2
    assert versions[0] == first
    assert [lines[-2] for lines in said] == [versions[1]] * 2
    assert project.snapshots.current() == project.snapshots.load(versions[1])
    assets = [recipe.name for recipe in DATA[:6]]
    race(workers, "ragft", "--settings", settings, "run", "--assets", ",".join(assets))
    assert project.snapshots.versions() == versions
    assert all(project.store.read(versions[1], asset) for asset in assets)
    with dg.DagsterInstance.from_config(str(project.store.root / "dagster_home")) as instance:
        assert instance.get_dynamic_partitions(VERSIONS) == versions[1:]
    assert_clean(project.store)


@pytest.mark.slow
def test_a_clean_up_beside_runs_removes_nothing_in_use(
    workers: list[Worker], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run is for the version that is kept, one for an earlier one that is not."""
    names = [recipe.name for recipe in RACED]
    earlier = freeze(project)
    workers[0].begin("make", str(project.settings_file), earlier, names[:-3])
    workers[0].wait_for("done")
    change(project)
    versions = [earlier, freeze(project)]
    long_ago = time.time() - 2 * 86_400
    unused = project.store.artifact_path("chunked_nodes", "unused")
    shutil.copytree(project.store.read(earlier, "chunked_nodes").path, unused)
    for folder in (project.store.root / "artifacts").glob("*/*"):
        os.utime(folder, (long_ago, long_ago))  # nobody's, by their age
    monkeypatch.setenv("RAGFT_SETTINGS", str(project.settings_file))
    for worker, version in zip(workers, versions):
        worker.begin("make", str(project.settings_file), version, names)
    workers[0].wait_for("embedding_adapter: computing")
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(worker.wait_for, "done") for worker in workers]
        while not all(end.done() for end in ends):
            assert main(["gc", "--keep", "1", "--delete"]) == 0
            assert main(["status"]) == 0
    assert [end.result()[-1] for end in ends] == ["done", "done"]
    assert not unused.exists()
    alone = run_alone(project, versions, RACED)
    for version in versions:
        assert_same_version(project.store, alone, version, RACED)
