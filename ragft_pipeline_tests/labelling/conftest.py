"""A small corpus with a bundle over it, promoted, and a log of what people asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.labelling.session import Session
from ragft_pipeline.labelling.systems import Systems
from ragft_pipeline.serving.bundle import BundleStore
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline_tests.corpora import settings_for, write_corpus
from ragft_pipeline_tests.serving.conftest import (
    ADAPTED,
    BREAD,
    PUMP,
    UNTUNED,
    noisy_adapter,
    serve,
)

ASKED = (
    "how often is the strainer cleaned?", "why does a pump rattle?", "where are the spare seals?",
    "when is the pressure read?", "how long is the log kept?", "when are gloves worn?",
    "how long does rye dough rest?", "how hot is the oven?", "what is sourdough fed with?",
    "when is a loaf done?", "what is strewn on rolls?", "how is flour stored?",
    "on which day is the strainer cleaned?", "what is let out before cleaning?",
    "which drawer holds the seals?", "how many years is the log of the pump house kept?",
    "what sounds hollow?", "what is done with poppy seeds?", "is flour put on the floor?",
    "to what is the oven cooled?",
)  # fmt: skip


Labelling = tuple[str, subprocess.Popen[str]]
"""The address of a `ragft label`, and its process."""


@dataclass(frozen=True)
class Handbook:
    """A corpus folder, its frozen version, and the store with a promoted bundle."""

    folder: Path
    store: ArtifactStore
    settings: Settings

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    @property
    def gold(self) -> Path:
        return self.corpus / "queries.jsonl"

    def entries(self) -> list[dict[str, object]]:
        text = self.gold.read_text(encoding="utf-8") if self.gold.is_file() else ""
        return [json.loads(line) for line in text.split("\n") if line]

    def session(self, given: Sequence[str] = ASKED) -> Session:
        return Session(self.store, Systems(self.store), self.gold, given)


def make_bundle_of(
    store: ArtifactStore, version: str, configuration: Configuration, models: Models
) -> str:
    """Build a bundle over a frozen version, a node a paragraph; return its digest."""
    snapshots = SnapshotStore(store)
    rows, paths = [], {}
    for document in snapshots.load(version).table(schemas.DOCUMENTS).to_pylist():
        key, text = document["doc_key"], snapshots.text(document["doc_key"])
        paths[key] = document["path"]
        for part in text.split("\n\n"):
            start = text.index(part)
            rows.append(
                {
                    "node_id": f"{document['path'][:-4]}-{start}", "doc_key": key, "cluster": key,
                    "split": "train", "title": document["title"], "heading_path": [], "text": part,
                    "start_char": start, "end_char": start + len(part), "tokens": 9,
                }
            )  # fmt: skip
    nodes = pa.Table.from_pylist(rows, schema=schemas.NODES.schema)
    with store.staging("test") as folder:
        work = Workspace(store, "test", folder)
        table = folder / "nodes.parquet"
        schemas.NODES.layout.write(nodes, table)
        bundle = BundleStore(store).build(
            version, configuration, models, {}, table, paths, Settings(), work
        )
    return bundle.digest


@pytest.fixture(scope="session")
def made_handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to copy: a frozen corpus, a promoted adapter over it."""
    folder = tmp_path_factory.mktemp("handbook")
    texts = [*PUMP, *BREAD]
    documents = {f"{n}.txt": f"{texts[n]}\n\n{texts[n + 1]}" for n in range(0, 12, 2)}
    write_corpus(folder / "corpus" / "docs", documents)
    (folder / "corpus" / "queries.jsonl").write_text("", encoding="utf-8")
    settings = settings_for(folder / "corpus", folder / "store")
    store = ArtifactStore(settings.store)
    version = SnapshotStore(store).freeze(settings).version
    digest = make_bundle_of(store, version, ADAPTED, noisy_adapter(folder, 0.03))
    make_bundle_of(store, version, UNTUNED, Models())
    serve(store, BundleStore(store).load(digest))
    return folder


@pytest.fixture
def handbook(made_handbook: Path, tmp_path: Path) -> Handbook:
    for part in ("corpus", "store"):
        shutil.copytree(made_handbook / part, tmp_path / part)
    settings = settings_for(tmp_path / "corpus", tmp_path / "store")
    return Handbook(tmp_path, ArtifactStore(settings.store), settings)


@contextmanager
def labelling_process(handbook: Handbook, log: Path) -> Iterator[Labelling]:
    """Give the address of `ragft label` over a handbook's log, and its process."""
    file = handbook.folder / "ragft.yaml"
    file.write_text(f"store: {handbook.store.root}\ncorpus: {{source: {handbook.corpus}}}\n")
    questions = handbook.folder / "asked.txt"
    questions.write_text("\n".join(ASKED), encoding="utf-8")
    with labelling(file, questions, log) as running:
        yield running


@contextmanager
def labelling(file: Path, questions: Path, log: Path) -> Iterator[Labelling]:
    """Give the address of `ragft label` over a log of questions, by a settings file."""
    program = "import sys; from ragft_pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RAGFT_SETTINGS": str(file)}
    environment.pop("RAGFT_STORE", None)
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-c", program, "label", str(questions), "--port", "0"],
            env=environment, stdout=subprocess.PIPE, stderr=errors, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("judge at "), log.read_text(encoding="utf-8", errors="replace")
            yield line.split()[2].rstrip(","), process
        finally:
            process.terminate()
            process.wait(60)
