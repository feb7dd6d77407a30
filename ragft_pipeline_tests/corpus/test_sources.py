from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from ragft_pipeline.corpus.sources import SkippedDocument, list_documents, open_source
from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings import CorpusSettings
from ragft_pipeline_tests.corpora import write_corpus


def listed(root: Path | str, **settings: object) -> dict[str, str | None]:
    corpus = CorpusSettings.model_validate({"source": str(root), **settings})
    return dict(list_documents(open_source(corpus), corpus))


def test_documents_are_listed_sorted_without_hidden_and_foreign_files(tmp_path: Path) -> None:
    names = ["b/z.MD", "a.txt", "b/.hidden.md", ".git/x.md", "image.png", "README", "ü/字.md"]
    write_corpus(tmp_path, dict.fromkeys(names, "text"))
    assert list(listed(tmp_path).items()) == [("a.txt", None), ("b/z.MD", None), ("ü/字.md", None)]


def test_a_corpus_under_a_hidden_folder_is_listed(tmp_path: Path) -> None:
    write_corpus(tmp_path, {".home/docs/a.md": "text"})
    assert listed(tmp_path / ".home/docs/") == {"a.md": None}


def test_symbolic_links_do_not_lead_out(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"secret/key.md": "x", "docs/real.md": "y"})
    docs = tmp_path / "docs"
    (docs / "out.md").symlink_to(tmp_path / "secret" / "key.md")
    (docs / "folder").symlink_to(tmp_path / "secret")
    (docs / "relative.md").symlink_to("../secret/key.md")
    (docs / "inside.md").symlink_to("real.md")
    reason = "a symbolic link that leads out of the corpus folder"
    assert listed(docs) == {
        "inside.md": None,
        "out.md": reason,
        "real.md": None,
        "relative.md": reason,
    }


def test_a_corpus_behind_a_symbolic_link_is_read(tmp_path: Path) -> None:
    write_corpus(tmp_path / "real", {"a.md": "x"})
    (tmp_path / "link").symlink_to("real")
    assert listed(tmp_path / "link") == {"a.md": None}


def test_broken_and_looping_links_are_only_unreadable(tmp_path: Path) -> None:
    (tmp_path / "loop.md").symlink_to("loop.md")
    (tmp_path / "broken.md").symlink_to("nothing.md")
    assert sorted(listed(tmp_path)) == ["broken.md", "loop.md"]
    source = open_source(CorpusSettings(source=str(tmp_path)))
    for name in ("loop.md", "broken.md"):
        with pytest.raises(SkippedDocument, match="cannot be read"):
            source.read(name, 100)


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    assert listed(tmp_path) == {"pipe.md": "not a regular file"}


def test_a_name_that_is_not_utf8_is_spelled_out(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.md")).write_text("x")
    assert listed(tmp_path) == {"caf\\udce9.md": "its name is not UTF-8"}


def test_a_file_over_the_limit_is_skipped(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"a.md": "x" * 100})
    source = open_source(CorpusSettings(source=str(tmp_path)))
    assert len(source.read("a.md", 100)) == 100
    with pytest.raises(SkippedDocument, match=r"larger than corpus\.max_file_mb"):
        source.read("a.md", 99)


def test_a_folder_of_docs_and_queries_is_taken_as_those(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"docs/a.md": "x", "queries.jsonl": "{}", "other.md": "y"})
    assert listed(tmp_path) == {"a.md": None}
    assert open_source(CorpusSettings(source=str(tmp_path))).read_gold() == "{}"


def test_docs_without_queries_is_a_folder_like_any(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"docs/a.md": "x", "other.md": "y"})
    assert sorted(listed(tmp_path)) == ["docs/a.md", "other.md"]
    assert open_source(CorpusSettings(source=str(tmp_path))).read_gold() is None


def test_gold_questions_are_found_in_the_corpus_or_by_path(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"docs/a.md": "x", "docs/gold.jsonl": "in", "elsewhere.jsonl": "out"})
    for name, text in (("gold.jsonl", "in"), (str(tmp_path / "elsewhere.jsonl"), "out")):
        settings = CorpusSettings(source=str(tmp_path / "docs"), gold_questions=name)
        assert open_source(settings).read_gold() == text
    with pytest.raises(RagftError, match=r"corpus.gold_questions 'no.jsonl' is not a file"):
        open_source(CorpusSettings(source=str(tmp_path), gold_questions="no.jsonl"))


def test_gold_questions_in_another_encoding_are_an_error(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"docs/a.md": "x", "queries.jsonl": "é".encode("latin-1")})
    with pytest.raises(RagftError, match="not UTF-8"):
        open_source(CorpusSettings(source=str(tmp_path))).read_gold()


@pytest.mark.parametrize("url", ["no/such/folder", "nosuch://bucket/x", "memory://nothing"])
def test_a_source_that_is_not_there_is_named(url: str) -> None:
    with pytest.raises(RagftError, match=r"corpus\.source") as caught:
        open_source(CorpusSettings(source=url))
    assert url in str(caught.value)


def test_an_fsspec_url_is_read_like_a_folder() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/handbook/docs/b/x.md": b"text", "/handbook/queries.jsonl": b"{}"})
    try:
        assert listed("memory://handbook") == {"b/x.md": None}
        source = open_source(CorpusSettings(source="memory://handbook"))
        assert source.read("b/x.md", 10) == b"text"
        assert source.read_gold() == "{}"
    finally:
        memory.rm("/handbook", recursive=True)
