from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.cli import main
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.settings import CorpusSettings, Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.artifacts import Link
from ragft_pipeline_tests.corpora import write_corpus


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one frozen version and its training questions; a settings file beside it."""
    write_corpus(tmp_path / "corpus", {"a.md": "The pump starts at 6 bar."})
    store = ArtifactStore(tmp_path / "store")
    settings = Settings(corpus=CorpusSettings(source=str(tmp_path / "corpus")))
    version = SnapshotStore(store).freeze(settings).version
    pair = {"question_id": "q", "question": "When does it start?", "node_id": "n"}
    pair |= {"answer_start": 4, "answer_end": 8}
    node = {"node_id": "n", "doc_key": "d", "text": "The pump starts at 6 bar.", "start_char": 0}
    for asset, table, row in (
        ("train_qa_pairs", schemas.QA_PAIRS, pair),
        ("train_nodes", schemas.NODES, node),
    ):
        with store.staging(asset) as staged:
            rows = pa.Table.from_pylist([row], schema=table.schema)
            table.layout.write(rows, staged / f"{asset}.parquet")
            store.publish(asset, "k", staged, data_version="d", facts={"row_count": 1}, inputs={})
        store.link(Link(asset, version, "k", "d", "computed", 0.0))
    (tmp_path / "ragft.yaml").write_text(
        f"store: {tmp_path / 'store'}\ncorpus:\n  source: {tmp_path / 'corpus'}\n"
    )
    monkeypatch.setenv("RAGFT_SETTINGS", str(tmp_path / "ragft.yaml"))
    monkeypatch.setenv("RAGFT_STORE", str(tmp_path / "store"))  # what main sets is undone after
    return tmp_path


def test_questions_are_exported(project: Path) -> None:
    assert main(["export-qa", "train", str(project / "out.json")]) == 0
    dataset = json.loads((project / "out.json").read_text())
    assert dataset["queries"] == {"q": "When does it start?"}
    assert dataset["corpus"] == {"n": "The pump starts at 6 bar."}
    assert dataset["relevant_docs"] == {"q": ["n"]}


@pytest.mark.parametrize(
    ("target", "reason"), [("missing/out.json", "No such file"), ("/dev/full", "No space left")]
)
def test_what_cannot_be_written_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], target: str, reason: str
) -> None:
    assert main(["export-qa", "train", str(project / target)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("ragft: ")
    assert reason in line


def test_a_store_that_cannot_be_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = project / "ragft.yaml" / "store"  # below a file: root may write anywhere else
    assert main(["--store", str(store), "freeze"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ragft: {store}")
    assert "Not a directory" in line
