from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from ragft_pipeline.corpus.listing import list_documents
from ragft_pipeline.corpus.sources import SkippedDocument, open_source
from ragft_pipeline.errors import RagftError, one_line, redacted
from ragft_pipeline.settings import CorpusSettings
from ragft_pipeline_tests.corpora import write_corpus


def listed(root: Path | str, **settings: object) -> dict[str, str | None]:
    corpus = CorpusSettings.model_validate({"source": str(root), **settings})
    found = list_documents(open_source(corpus), corpus)
    return {one.path: one.reason for one in found if not one.excluded}


def test_documents_are_listed_sorted(tmp_path: Path) -> None:
    names = ["b/z.MD", "a.txt", "ü/字.md"]
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
        "folder": "a symbolic link to a folder",
        "inside.md": None,
        "out.md": reason,
        "real.md": None,
        "relative.md": reason,
    }


def test_a_link_to_a_folder_of_the_corpus_is_named(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"a/real.md": "x", ".cache/b.md": "y"})
    (tmp_path / "again").symlink_to("a")
    (tmp_path / "a" / "up.md").symlink_to("..")  # a folder, whatever its name
    (tmp_path / ".hidden").symlink_to("a")
    reason = "a symbolic link to a folder"
    assert listed(tmp_path) == {"a/real.md": None, "a/up.md": reason, "again": reason}


def test_implied_gold_questions_do_not_lead_out_unless_named(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"secret.jsonl": "{}", "corpus/docs/a.md": "x"})
    link = tmp_path / "corpus" / "queries.jsonl"
    link.symlink_to("../secret.jsonl")
    corpus = str(tmp_path / "corpus")
    with pytest.raises(RagftError, match=r"queries\.jsonl is a symbolic link that leads out"):
        open_source(CorpusSettings(source=corpus))
    for name in ("queries.jsonl", str(link)):
        named = CorpusSettings(source=corpus, gold_questions=name)
        assert open_source(named).read_gold() == "{}"
    link.unlink()
    write_corpus(tmp_path, {"corpus/gold.jsonl": "inside"})
    link.symlink_to("gold.jsonl")
    assert open_source(CorpusSettings(source=corpus)).read_gold() == "inside"


def test_the_docs_folder_does_not_lead_out(tmp_path: Path) -> None:
    write_corpus(
        tmp_path, {"secret/a.md": "x", "corpus/queries.jsonl": "{}", "corpus/v2/b.md": "y"}
    )
    docs = tmp_path / "corpus" / "docs"
    docs.symlink_to("../secret")
    with pytest.raises(RagftError, match=r"docs is a symbolic link that leads out"):
        open_source(CorpusSettings(source=str(tmp_path / "corpus")))
    docs.unlink()
    docs.symlink_to("v2")
    assert listed(tmp_path / "corpus") == {"b.md": None}


def test_an_unreadable_gold_file_is_one_line(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"docs/a.md": "x", "queries.jsonl": "{}"})
    source = open_source(CorpusSettings(source=str(tmp_path)))
    (tmp_path / "queries.jsonl").unlink()
    (tmp_path / "queries.jsonl").mkdir()
    with pytest.raises(
        RagftError, match=r"^gold questions .*queries\.jsonl cannot be read"
    ) as caught:
        source.read_gold()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("data/what?/me@home", "data/what?/me@home"),
        ("s3://bucket/a@b/docs", "s3://bucket/a@b/docs"),
        ("s3://KEY:s3cret@bucket/docs", "s3://bucket/docs"),
        ("s3://KEY:s3c/r#e?t@bucket/docs", "s3://bucket/docs"),
        ("sftp://me@host:22/a@b", "sftp://host:22/a@b"),
        ("https://me:pw@host:8000/v1?sig=a::b&x=y@z", "https://host:8000/v1"),
        ("http://[::1]:8000/v1?key=k", "http://[::1]:8000/v1"),
        ("zip://a.md::https://h/b.zip?sig=k::b", "zip://a.md::https://h/b.zip"),
        ("zip://::simplecache::s3://K:s@b/c.zip", "zip://::simplecache::s3://b/c.zip"),
        ("abfs://c@account/x?sig=1::file:///y", "abfs://account/x::file:///y"),
    ],
)
def test_credentials_are_left_out_of_urls(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    "url",
    ["nosuch://me:s3cret-word@host/x?token=abc12345", "memory://me:s3cret-word@no?k=abc12345"],
)
def test_credentials_are_in_no_error(url: str) -> None:
    with pytest.raises(RagftError) as caught:
        open_source(CorpusSettings(source=url))
    text = str(caught.value)
    assert text.startswith(f"corpus.source {redacted(url)!r}")
    assert "s3cret-word" not in text
    assert "abc12345" not in text


def test_what_a_back_end_says_is_one_line_without_credentials() -> None:
    url = "s3://KEY:s3c%2Fret@bucket/docs?token=abc12345"
    error = ValueError(f"GET {url}\nrefused s3c/ret; see https://a:b@h/x?token=other")
    assert one_line(error, url) == "GET s3://bucket/docs refused …; see https://h/x"
    assert one_line(ValueError()) == "ValueError"


def test_a_source_shows_no_credentials() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/me:pw@handbook/a.md": b"text"})
    try:
        assert open_source(CorpusSettings(source="memory://me:pw@handbook")).url == (
            "memory://handbook"
        )
    finally:
        memory.rm("/me:pw@handbook", recursive=True)


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
    assert [path for path, reason in listed(tmp_path).items() if reason is None] == ["a.md"]
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
