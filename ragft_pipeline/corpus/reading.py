"""From a corpus folder to texts; what is known by its bytes is not read again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from ragft_pipeline.compute import RowFunction, open_map
from ragft_pipeline.corpus.document_metadata import to_json
from ragft_pipeline.corpus.left_out import said
from ragft_pipeline.corpus.listing import list_documents
from ragft_pipeline.corpus.markdown import title_of
from ragft_pipeline.corpus.readers import MARKDOWN_SUFFIXES, SkippedDocument, read_document
from ragft_pipeline.corpus.sources import Source
from ragft_pipeline.settings import CorpusSettings, Settings

_WINDOW = 64_000_000  # bytes of files held at once
_TEXTS = pa.schema(
    [
        ("path", pa.string()),
        ("text", pa.large_string()),
        ("title", pa.string()),
        ("warnings", pa.list_(pa.string())),
        ("metadata", pa.string()),
        ("front", pa.int64()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class ReadDocument:
    """A document whose text, named by `doc_key`, is frozen; `warnings` say what is in doubt.

    `metadata` is what it says about itself, as JSON, and `front` how many characters of the file
    that took, above the text.
    """

    path: str
    raw_sha256: str
    size: int
    doc_key: str
    characters: int
    title: str
    warnings: tuple[str, ...] = ()
    metadata: str = ""
    front: int = 0


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
            row: dict[str, object] = {"path": unit.path}
            try:
                reading = read_document(unit.path, unit.data, self.settings)
                row |= {n: getattr(reading, n) for n in ("text", "title", "warnings", "front")}
                row["metadata"] = to_json(reading.metadata)
            except SkippedDocument as error:
                row["reason"] = str(error)
            rows.append(row)
        return pa.Table.from_pylist(rows, schema=_TEXTS)


def read_corpus(
    source: Source,
    settings: Settings,
    known: Mapping[tuple[str, str], ReadDocument],
    keep: Callable[[str], str],
    progress: Callable[[str], None],
) -> tuple[list[ReadDocument], list[dict[str, str]]]:
    """Return the documents, in the order of the listing, and what is not read with the reason.

    Args:
        known: what was read before, by the SHA-256 of a file's bytes and its suffix.
        keep: freezes a text and returns its doc_key.
    """
    limit = int(settings.corpus.max_file_mb * 1e6)
    found: dict[str, ReadDocument | str] = {}  # or the reason
    waiting: list[RawDocument] = []

    def read_waiting() -> None:
        raw = {one.path: one for one in waiting}
        done = 0
        read = open_map(settings.compute)(ReadTexts(settings.corpus), waiting, 16)
        for batch in read:
            for row in batch.rows.to_pylist():
                path, text, one = row["path"], row["text"], raw[row["path"]]
                if row["reason"] is not None:
                    found[path] = row["reason"]
                    continue
                markdown = path.lower().endswith(MARKDOWN_SUFFIXES)
                title = row["title"] or title_of(text, markdown)
                size, warnings = len(one.data), tuple(row["warnings"])
                found[path] = ReadDocument(
                    path, one.raw_sha256, size, keep(text), len(text), title, warnings,
                    row["metadata"], row["front"],
                )  # fmt: skip
            done += batch.units
            if done % 100 < batch.units:
                progress(f"read {done}/{len(waiting)} new documents")
        waiting.clear()

    paths, held = [], 0
    for listed in list_documents(source, settings.corpus, settings.store):
        path = listed.path
        paths.append(path)
        if listed.reason is not None:
            found[path] = listed.reason
            continue
        try:
            data = source.read(path, limit)
        except SkippedDocument as error:
            found[path] = str(error)
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
    read = [one for _, one in documents if isinstance(one, ReadDocument)]
    skipped = [{"path": path, "reason": one} for path, one in documents if isinstance(one, str)]
    for line in (
        *said("skipped", skipped, "reason"),
        *said("warning:", warnings_of(read), "warning"),
    ):
        progress(line)
    return read, skipped


def warnings_of(documents: Sequence[ReadDocument]) -> list[dict[str, str]]:
    """Return what is in doubt about documents that were read: WARNINGS rows."""
    return [{"path": one.path, "warning": text} for one in documents for text in one.warnings]
