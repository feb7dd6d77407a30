"""Shared real parts: a small corpus of the sample handbook, and the pipeline run on it once."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest
import yaml
from filelock import FileLock

from ragft_pipeline import Corpus
from ragft_pipeline.cli import main
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.models.memory import give_back
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.store import Artifact, ArtifactStore
from ragft_pipeline_tests.s3_server import S3Server, Team, make_team, s3_server
from ragft_pipeline_tests.short_model import short_embedder, short_language_model

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data" / "sample"

hypothesis.settings.register_profile("suite", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("suite")

WORTH_COLLECTING = 50_000_000  # bytes that a test leaves behind

SMALL = {
    "questions": {
        "generators": [
            {"kind": "extractive", "claims": 2, "keywords": 1},
            {"kind": "llm", "share_of_nodes": 0.08, "max_nodes": 1, "questions_per_node": 1},
        ],
    },
    "teacher": {"late_questions": 12},
    "adapter": {"checkpoints": 2},
    "tuned_embedder": {"max_pairs": 48, "val_questions": 16, "strengths": [0.5]},
    "reranker": {
        "layers": 1, "max_questions": 24, "evaluations": 1, "val_questions": 4, "max_tokens": 64,
    },
    "late_interaction": {"depth": 10},
    "chats": {"max_chats": 12, "rephrased": 2},
    "tuned_llm": {
        "budget": {"minutes": 0, "steps": 1}, "evaluations": 1, "val_chats": 2, "strengths": [1.0],
        "batch_size": 2, "max_tokens": 512,
    },
    "llm_eval": {
        "max_questions": 4, "max_synthetic": 2, "closed_book": 1, "max_new_tokens": 8,
        "perplexity_texts": 2,
    },
    "evaluation": {
        "max_questions": 20, "max_synthetic": 20, "bootstrap": 500,
        "latency_queries": 3, "min_gold": 5,
    },
}  # fmt: skip


def run_command(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, with these variables; what it sets is undone after it."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in ("DAGSTER_HOME", "RAGFT_STORE"):
            patch.setenv(name, "")
            os.environ.pop(name)
        for name, value in {"HF_HUB_OFFLINE": "1", **environment}.items():
            patch.setenv(name, value)
        patch.chdir(ROOT)
        code = main(arguments)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


VERSIONS = "corpus_version"  # the set of partitions of a corpus without another name


@dataclass
class Project:
    """A corpus folder, a settings file and a store, as a user would have them."""

    folder: Path

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    @property
    def settings_file(self) -> Path:
        return self.folder / "ragft.yaml"

    @property
    def settings(self) -> Settings:
        return load_settings(self.settings_file)

    @property
    def bound(self) -> Corpus:
        return Corpus(settings_file=str(self.settings_file))

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.folder / "store")

    @property
    def snapshots(self) -> SnapshotStore:
        return SnapshotStore(self.store)

    def configure(self, **sections: dict[str, object]) -> None:
        body: dict[str, Any] = {
            "store": str(self.folder / "store"),
            "corpus": {"source": str(self.corpus)},
            "embedder": {"model": str(short_embedder())},
            **SMALL,
            "reranker": {"model": str(short_embedder()), **SMALL["reranker"]},
            **sections,
        }
        body["tuned_llm"] = {"model": str(short_language_model()), **body["tuned_llm"]}
        self.settings_file.write_text(yaml.safe_dump(body), encoding="utf-8")

    def copy(self, folder: Path, **sections: dict[str, object]) -> Project:
        """Copy all that is in it; the copy is free to change."""
        shutil.copytree(self.folder, folder, symlinks=True)
        copy = Project(folder)
        copy.configure(**sections)
        return copy

    def ragft(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command in this process, which has imported what is heavy."""
        return run_command(arguments, {"RAGFT_SETTINGS": str(self.settings_file)})

    def ragft_process(self, *arguments: str, probe: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command in a process of its own; `probe` is Python run after it."""
        program = (
            f"import sys; from ragft_pipeline.cli import main; code = main(sys.argv[1:]); {probe}"
        )
        environment = {
            **os.environ,
            "RAGFT_SETTINGS": str(self.settings_file),
            "HF_HUB_OFFLINE": "1",
        }
        environment.pop("DAGSTER_HOME", None)
        return subprocess.run(
            [sys.executable, "-c", f"{program}\nsys.exit(code)", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip

    def artifact(self, asset: str, version: str | None = None) -> Artifact:
        return self.store.read(version or self.snapshots.versions()[-1], asset)


def copy_sample(target: Path, documents: int) -> None:
    """Copy some documents of every area and kind, and the gold questions."""
    files = sorted((SAMPLE / "docs").rglob("*.*"))
    chosen = files[:: max(1, len(files) // documents)][:documents]
    for file in chosen:
        place = target / "docs" / file.relative_to(SAMPLE / "docs")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    shutil.copyfile(SAMPLE / "queries.jsonl", target / "queries.jsonl")


def make_project(folder: Path, documents: int = 14) -> Project:
    """Return a project over some of the sample handbook."""
    project = Project(folder)
    copy_sample(project.corpus, documents)
    project.configure()
    return project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker makes the finished project while the other does what needs none."""

    def turn(file: Path) -> int:
        return 0 if file.name == "test_pipeline.py" else 1 + (file in with_project)

    with_project = {item.path for item in items if "finished" in item.fixturenames}  # type: ignore[attr-defined]
    items.sort(key=lambda item: turn(item.path))


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    """Give back what a test leaves behind, once it amounts to something."""
    process = psutil.Process()
    before = process.memory_info().rss
    yield
    if process.memory_info().rss - before > WORTH_COLLECTING:
        give_back()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose first version has been materialized through Dagster: do not change it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # one for all workers
    project, done = Project(folder / "finished"), folder / "finished" / "first_run.txt"
    with FileLock(folder / "finished.lock"):
        if not done.is_file():
            make_project(project.folder)
            run = project.ragft_process("run")
            assert run.returncode == 0, run.stdout + run.stderr
            done.write_text(run.stdout, encoding="utf-8")
    return project


@pytest.fixture
def copied(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, free to change."""
    return finished.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3-speaking server on 127.0.0.1."""
    with s3_server() as server:
        yield server


@pytest.fixture
def team(s3: S3Server, tmp_path: Path) -> Iterator[Team]:
    """An empty store on the server, and the environment that its machines need."""
    with make_team(s3, tmp_path) as team:
        yield team
