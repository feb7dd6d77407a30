"""Finding and reading the files of a corpus, on any fsspec URL, without leaving its folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from ragft_pipeline.corpus.readers.kinds import SkippedDocument
from ragft_pipeline.errors import RagftError, one_line, redacted
from ragft_pipeline.settings import CorpusSettings

GOLD_FILES = tuple(f"queries.{kind}" for kind in ("jsonl", "json", "csv", "tsv"))


@dataclass(frozen=True)
class Source:
    """The folder of a corpus on some file system, and its gold questions, if any.

    A folder that holds `docs/` and `queries.jsonl` (.json, .csv, .tsv) is taken as those two; any
    other folder is the documents themselves. `url` is for people: it holds no credentials.
    """

    fs: Any
    root: str
    gold: str | None
    url: str

    @property
    def outside(self) -> str | None:
        """The folder of which only `docs/` is the corpus; None where all of it is."""
        folder = self.root.rpartition("/docs")[0]
        narrowed = self.gold is not None and self.root == f"{self.gold.rpartition('/')[0]}/docs"
        return folder if narrowed else None

    def read(self, path: str, limit: int) -> bytes:
        """Read one file, given by its path inside the corpus.

        Raises SkippedDocument where it is over `limit` bytes or cannot be read.
        """
        full = f"{self.root}/{path}"
        try:
            with self.fs.open(full, "rb") as file:
                data: bytes = file.read(limit + 1)
        except OSError as error:
            raise SkippedDocument(
                f"cannot be read ({error.strerror or type(error).__name__})"
            ) from None
        if len(data) > limit:
            raise SkippedDocument(f"larger than corpus.max_file_mb ({limit / 1e6:g} MB)")
        return data

    def read_gold(self) -> str | None:
        """Return the text of the gold questions file, or None where there is none."""
        if self.gold is None:
            return None
        name = redacted(self.gold)
        try:
            with self.fs.open(self.gold, "rb") as file:
                data: bytes = file.read()
        except Exception as error:  # fsspec back ends raise their own kinds
            raise RagftError(
                f"gold questions {name} cannot be read: {one_line(error, self.gold)}"
            ) from None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RagftError(f"gold questions {name}: not UTF-8 (byte {error.start})") from None


def open_source(settings: CorpusSettings) -> Source:
    """Open the corpus folder named in the settings.

    Raises RagftError where it does not exist, its file system is not available, or its `docs` or
    its `queries.jsonl` is a symbolic link out of it.
    """
    url = redacted(settings.source)
    try:
        fs, root = fsspec.core.url_to_fs(settings.source)
        exists = fs.isdir(root)
    except Exception as error:  # fsspec back ends raise their own kinds
        reason = one_line(error, settings.source)
        raise RagftError(f"corpus.source {url!r} cannot be opened: {reason}") from None
    if not exists:
        raise RagftError(f"corpus.source {url!r} is not a folder; give a folder or an fsspec URL")
    root = root.rstrip("/")
    implied = _implied_gold(fs, root)
    gold = _gold_path(fs, root, implied, settings)
    if implied is not None and fs.isdir(f"{root}/docs"):
        _refuse_escape(fs, root, "docs", "give the documents' own folder as corpus.source")
        root = f"{root}/docs"
    return Source(fs, root, gold, url)


def _implied_gold(fs: Any, root: str) -> str | None:
    """Return the name of the folder's own file of questions, however its case was typed."""
    try:
        paths = fs.ls(root, detail=False)
    except OSError:  # the listing of documents says so
        return None
    names = sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in paths)
    found = [name for kind in GOLD_FILES for name in names if name.lower() == kind]
    return next((name for name in found if fs.isfile(f"{root}/{name}")), None)


def _gold_path(fs: Any, root: str, implied: str | None, settings: CorpusSettings) -> str | None:
    if settings.gold_questions is None:
        if implied is None:
            return None
        _refuse_escape(fs, root, implied, "name the file in corpus.gold_questions")
        return f"{root}/{implied}"
    for candidate in (f"{root}/{settings.gold_questions}", settings.gold_questions):
        if fs.isfile(candidate):
            return candidate
    raise RagftError(f"corpus.gold_questions {redacted(settings.gold_questions)!r} is not a file")


def _refuse_escape(fs: Any, root: str, name: str, advice: str) -> None:
    if is_local(fs) and not lies_within(f"{root}/{name}", Path(root).resolve()):
        raise RagftError(
            f"corpus: {root}/{name} is a symbolic link that leads out of the corpus folder; "
            f"if that is meant, {advice}"
        )


def real_path(path: str) -> Path:
    """Return where a path leads, through all links."""
    return Path(os.path.realpath(path))  # Path.resolve raises on a loop of links before 3.13


def lies_within(path: str, local_root: Path) -> bool:
    """Say whether a path leads to somewhere inside a folder."""
    return real_path(path).is_relative_to(local_root)


def is_local(fs: Any) -> bool:
    """Say whether a file system is this machine's own."""
    protocol = fs.protocol if isinstance(fs.protocol, tuple | list) else (fs.protocol,)
    return "file" in protocol or "local" in protocol
