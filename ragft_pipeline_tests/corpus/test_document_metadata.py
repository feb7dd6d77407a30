"""What of front matter is kept with a document, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from ragft_pipeline.corpus.document_metadata import from_json, kept_metadata, to_json
from ragft_pipeline.corpus.readers import Reading, read_document
from ragft_pipeline.settings import CorpusSettings


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
