"""From a corpus folder to texts; what is known by its bytes is not read again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from ragft_pipeline.compute import RowFunction, open_map
from ragft_pipeline.corpus.markdown import title_of
from ragft_pipeline.corpus.readers import MARKDOWN_SUFFIXES, read_text
from ragft_pipeline.corpus.sources import SkippedDocument, Source, list_documents
from ragft_pipeline.settings import CorpusSettings, Settings

_WINDOW = 64_000_000  # bytes of files held at once
_TEXTS = pa.schema([("path", pa.string()), ("text", pa.large_string()), ("reason", pa.string())])


@dataclass(frozen=True)
class ReadDocument:
    """A document whose text, named by `doc_key`, is frozen."""

    path: str
    raw_sha256: str
    size: int
    doc_key: str
    characters: int
    title: str


@dataclass(frozen=True)
class RawDocument:
    """A file as it was found."""

    path: str
    raw_sha256: str
    data: bytes


@dataclass(frozen=True)
class ReadTexts(RowFunction[RawDocument]):
    """The texts of files, or the reasons why there is none."""

    seconds: ClassVar[float] = 0.05
    settings: CorpusSettings

    def __call__(self, units: Sequence[RawDocument]) -> pa.Table:
        """Read the files."""
        rows = []
        for unit in units:
            text, reason = None, None
            try:
                text = read_text(unit.path, unit.data, self.settings)
            except SkippedDocument as error:
                reason = str(error)
            rows.append({"path": unit.path, "text": text, "reason": reason})
        return pa.Table.from_pylist(rows, schema=_TEXTS)


def read_corpus(
    source: Source,
    settings: Settings,
    known: Mapping[tuple[str, str], ReadDocument],
    keep: Callable[[str], str],
    progress: Callable[[str], None],
) -> tuple[list[ReadDocument], list[dict[str, str]]]:
    """Return the documents, in the order of the listing, and those skipped with the reason.

    Args:
        known: what was read before, by the SHA-256 of a file's bytes and its suffix.
        keep: freezes a text and returns its doc_key.
    """
    limit = int(settings.corpus.max_file_mb * 1e6)
    found: dict[str, ReadDocument | str] = {}  # or the reason
    waiting: list[RawDocument] = []

    def skip(path: str, reason: str) -> None:
        found[path] = reason
        progress(f"skipped {path}: {reason}")

    def read_waiting() -> None:
        raw = {one.path: one for one in waiting}
        done = 0
        read = open_map(settings.compute)(ReadTexts(settings.corpus), waiting, 16)
        for batch in read:
            for row in batch.rows.to_pylist():
                path, text, one = row["path"], row["text"], raw[row["path"]]
                if row["reason"] is not None:
                    skip(path, row["reason"])
                    continue
                title = title_of(text, path.lower().endswith(MARKDOWN_SUFFIXES))
                found[path] = ReadDocument(
                    path, one.raw_sha256, len(one.data), keep(text), len(text), title
                )
            done += batch.units
            if done % 100 < batch.units:
                progress(f"read {done}/{len(waiting)} new documents")
        waiting.clear()

    paths, held = [], 0
    for path, refused in list_documents(source, settings.corpus):
        paths.append(path)
        try:
            if refused:
                raise SkippedDocument(refused)
            data = source.read(path, limit)
        except SkippedDocument as error:
            skip(path, str(error))
            continue
        raw_sha256 = hashlib.sha256(data).hexdigest()
        before = known.get((raw_sha256, Path(path).suffix.lower()))
        if before is not None:
            found[path] = replace(before, path=path)
            continue
        waiting.append(RawDocument(path, raw_sha256, data))
        held += len(data)
        if held > _WINDOW:
            read_waiting()
            held = 0
    read_waiting()
    documents = [(path, found[path]) for path in paths]
    return (
        [one for _, one in documents if isinstance(one, ReadDocument)],
        [{"path": path, "reason": one} for path, one in documents if isinstance(one, str)],
    )
