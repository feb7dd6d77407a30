from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from ragft_pipeline.corpus.left_out import counted, said
from ragft_pipeline.corpus.listing import list_documents
from ragft_pipeline.corpus.readers import _READERS
from ragft_pipeline.corpus.readers.kinds import READ_SUFFIXES, reason_unread
from ragft_pipeline.corpus.sources import open_source
from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings import CorpusSettings
from ragft_pipeline_tests.corpora import write_corpus

SUFFIXES = CorpusSettings().suffixes


def listed(root: Path | str, store: str | None = None, **settings: object) -> dict[str, str | None]:
    corpus = CorpusSettings.model_validate({"source": str(root), **settings})
    found = list_documents(open_source(corpus), corpus, store)
    return {one.path: one.reason for one in found}


def test_every_kind_that_is_read_is_a_default() -> None:
    assert set(SUFFIXES) == set(READ_SUFFIXES)
    assert set(_READERS) - set(SUFFIXES) == {".json", ".jsonl", ".ndjson"}  # read where named


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("old.doc", "save it as .docx"),
        ("deck.ppt", "save it as .pptx"),
        ("mail.msg", "save it as .eml"),
        ("pic.PNG", "an image (.png)"),
        ("talk.mp4", "sound or film (.mp4)"),
        ("all.zip", "an archive (.zip)"),
        ("data.json", "add .json to corpus.suffixes"),
        ("a.py", "source code (.py): add .py to corpus.suffixes"),
        ("README", "without a suffix"),
        ("x.zzz", "no known kind (.zzz)"),
    ],
)
def test_a_file_of_another_kind_is_named_with_what_to_do(
    tmp_path: Path, name: str, said: str
) -> None:
    write_corpus(tmp_path, {"a.md": "x", name: "y"})
    found = listed(tmp_path)
    assert found["a.md"] is None
    assert said in str(found[name])


def test_a_suffix_that_is_named_is_read_unless_it_is_no_text() -> None:
    assert reason_unread(".py", (".py",)) is None
    assert reason_unread(".pdf", (".md",)) == ".pdf is not in corpus.suffixes"
    for suffix in (".doc", ".png"):
        assert reason_unread(suffix, (suffix,)) is not None


def test_what_is_hidden_installed_cached_or_excluded_is_counted_not_read(tmp_path: Path) -> None:
    files = [
        "a.md", ".git/x.md", "b/.draft.md", "node_modules/p/README.md", "b/__pycache__/c.md",
        "myenv/pyvenv.cfg", "myenv/lib/d.md", "cache/CACHEDIR.TAG", "cache/e.md", "~$a.docx",
        "drafts/f.md", "b/g.bak.md", "build/h.md",
    ]  # fmt: skip
    write_corpus(tmp_path, dict.fromkeys(files, "text"))
    found = listed(tmp_path, exclude=["/drafts/", "*.bak.md"])
    assert found == {
        ".git/": "excluded: hidden",
        "a.md": None,
        "b/.draft.md": "excluded: hidden",
        "b/__pycache__/": "excluded: by default",
        "b/g.bak.md": "excluded: corpus.exclude",
        "build/h.md": None,
        "cache/": "excluded: a cache",
        "drafts/": "excluded: corpus.exclude",
        "myenv/": "excluded: a virtual environment",
        "node_modules/": "excluded: by default",
        "~$a.docx": "excluded: by default",
    }


def test_an_exclamation_mark_brings_back_what_is_excluded_by_default(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"a.md": "x", ".notes/b.md": "y", ".git/c.md": "z"})
    found = listed(tmp_path, exclude=["!.notes/"])
    assert found == {"a.md": None, ".notes/b.md": None, ".git/": "excluded: hidden"}


def test_a_store_inside_the_corpus_is_left_out(tmp_path: Path) -> None:
    files = ["a.md", "mystore/new.txt", "old/snapshots/v.md", "old/blobs/0a/1.txt"]
    write_corpus(tmp_path, dict.fromkeys(files, "text"))
    store = "excluded: a store of this tool"
    expected = {"a.md": None, "mystore/": store, "old/": store}
    assert listed(tmp_path, store=str(tmp_path / "mystore")) == expected


def test_exclusion_is_the_same_on_an_fsspec_url() -> None:
    memory = fsspec.filesystem("memory")
    files = ["a.md", "node_modules/b/c.md", "store/blobs/1.txt", "store/snapshots/2.txt", "x.doc"]
    memory.pipe({f"/shelf/{name}": b"text" for name in files})
    try:
        assert listed("memory://shelf") == {
            "a.md": None,
            "node_modules/": "excluded: by default",
            "store/": "excluded: a store of this tool",
            "x.doc": "an old Word file: save it as .docx",
        }
    finally:
        memory.rm("/shelf", recursive=True)


def test_documents_outside_docs_are_named_where_questions_narrow_the_corpus(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"README.md": "x", "docs/a.md": "y", "guides/b.md": "z", "c.png": "-"})
    assert listed(tmp_path)["guides/b.md"] is None
    write_corpus(tmp_path, {"queries.jsonl": "{}"})
    found = listed(tmp_path)
    assert list(found) == ["a.md", "../README.md", "../guides/b.md"]
    assert str(found["../guides/b.md"]).startswith("outside docs/")


def test_the_questions_beside_documents_are_no_document(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"a.md": "x", "queries.jsonl": "{}"})
    assert listed(tmp_path) == {"a.md": None}


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder be unreadable, also for root."""
    scan = os.scandir

    def scandir(path: str) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path, {"a.md": "x", "secret/b.md": "y"})
    deny(monkeypatch, tmp_path / "secret")
    assert listed(tmp_path) == {
        "a.md": None,
        "secret/": "a folder that cannot be read: Permission denied",
    }
    deny(monkeypatch, tmp_path)
    with pytest.raises(RagftError, match=r"cannot be read: Permission denied"):
        listed(tmp_path)


def test_reasons_are_counted_without_their_numbers_and_advice() -> None:
    reasons = [
        "an old Word file: save it as .docx",
        "an image (.png): there is no text to read",
        "an image (.png): there is no text to read",
        "unpacks to 120 MB",
        "unpacks to 7 MB",
        "excluded: hidden",
        "9 of 10 pages have no text (scans?)",
        "12% of its words mix scripts: a font is wrong",
    ]
    assert counted(reasons) == (
        "an image (.png) ×2, unpacks to n MB ×2, an old Word file ×1, excluded: hidden ×1, "
        "some of its words mix scripts ×1, some pages have no text (scans?) ×1"
    )


def test_of_many_alike_the_terminal_names_the_first() -> None:
    rows = [{"path": f"{n}.png", "reason": "an image (.png): no text"} for n in range(9)]
    lines = list(said("skipped", [*rows, {"path": "b.doc", "reason": "old"}], "reason"))
    assert lines == [
        "skipped 0.png: an image (.png): no text",
        "skipped 1.png: an image (.png): no text",
        "skipped 2.png: an image (.png): no text",
        "skipped 6 more: an image (.png)",
        "skipped b.doc: old",
    ]
