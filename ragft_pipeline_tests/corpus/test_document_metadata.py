"""What of front matter is kept with a document, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ragft_pipeline.corpus.document_metadata import from_json, kept_metadata, to_json
from ragft_pipeline.corpus.readers import Reading, read_document
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.recipes import chunked_nodes, corpus_snapshot
from ragft_pipeline.settings import CorpusSettings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.corpora import prose, settings_for, write_corpus


def read(text: str, name: str = "a.md") -> Reading:
    return read_document(name, text.encode(), CorpusSettings())


def test_front_matter_comes_beside_the_text_and_gives_the_title() -> None:
    front = (
        "---\ntitle: Pump\nproduct: P20\ntags: [seal, 7]\nreviewed: 2024-05-01\ndraft: no\n---\n\n"
    )
    found = read(f"{front}# Cleaning\n\nA spanner.")
    assert (found.text, found.title, found.front) == (
        "# Cleaning\n\nA spanner.",
        "Pump",
        len(front),
    )
    assert found.metadata == {
        "product": "P20", "tags": ["seal", 7], "reviewed": "2024-05-01", "draft": False,
    }  # fmt: skip
    assert found.warnings == ()


@pytest.mark.parametrize("text", ["---\nproduct: P20\n---", "# Pump\n\nwords", "---\n\nwords"])
def test_a_text_without_front_matter_above_it_stays_as_it_is(text: str) -> None:
    found = read(text)
    assert (found.text, found.metadata, found.front) == (text, {}, 0)


def test_front_matter_of_plain_text_is_text() -> None:
    text = "---\nproduct: P20\n---\n\nwords"
    assert read(text, "a.txt").text == text


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("  two\n lines\x00 ", "two lines"),
        (3, 3),
        (0.5, 0.5),
        (True, True),
        ([1, None, "a"], [1, "a"]),
        (float("nan"), None),
        (10**30, None),
        ({"a": 1}, None),
        ([["a"]], None),
        ("x" * 501, None),
        (list(range(65)), None),
    ],
)
def test_values_are_plain_and_bounded(value: Any, kept: Any) -> None:
    found, left_out = kept_metadata({"key": value})
    assert (found, left_out) == (({}, ["key"]) if kept is None else ({"key": kept}, []))
    assert from_json(to_json(found)) == found


def test_keys_are_names_and_few_and_the_others_are_named() -> None:
    assert kept_metadata({"title": "T", "path": "p", "empty": None, "none": []}) == ({}, [])
    found, left_out = kept_metadata({"odd key": 1, "a.b": 1, **{f"k{n}": n for n in range(33)}})
    assert (len(found), left_out) == (32, ["odd key", "a.b", "k32"])
    (line,) = read("---\nmenu:\n  main: 1\nodd key: 3\n---\n\nwords").warnings
    assert line.endswith(": menu, odd key")


def test_an_edit_of_front_matter_makes_no_node_anew(tmp_path: Path) -> None:
    """Nodes of the same data version: what reads them embeds and trains nothing."""
    texts = {f"{n}.md": f"# Page {n}\n\n{prose(n)}" for n in range(6)}
    settings = settings_for(tmp_path / "corpus", tmp_path / "store")
    snapshots = SnapshotStore(ArtifactStore(settings.store))
    made = []
    for product in ("", "P20", "P30"):
        front = f"---\nproduct: {product}\n---\n\n" if product else ""
        write_corpus(tmp_path / "corpus", texts | {"3.md": front + texts["3.md"]})
        version = snapshots.freeze(settings).version
        outcomes = [
            materialize(recipe, settings, version).artifact
            for recipe in (corpus_snapshot, chunked_nodes)
        ]
        made.append([artifact.data_version for artifact in outcomes])
    assert len({documents for documents, _ in made}) == 3
    assert len({nodes for _, nodes in made}) == 1
