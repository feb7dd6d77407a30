"""From a file's bytes to its text; documents are untrusted.

A reader a format, each on a library that knows it. What has structure comes out as Markdown, so
that chunking sees headings, lists, tables and code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from ragft_pipeline.corpus.document_metadata import kept_metadata, left_out_line
from ragft_pipeline.corpus.markdown import front_matter_end, metadata_of, title_of
from ragft_pipeline.corpus.readers.asciidoc import read_asciidoc
from ragft_pipeline.corpus.readers.kinds import (
    MARKDOWN,
    MARKDOWN_SUFFIXES,
    Reading,
    SkippedDocument,
)
from ragft_pipeline.corpus.readers.legibility import legibility
from ragft_pipeline.corpus.readers.mail import read_mail
from ragft_pipeline.corpus.readers.normalising import normalise
from ragft_pipeline.corpus.readers.notebooks import read_notebook
from ragft_pipeline.corpus.readers.office import read_epub, read_odt, read_pptx, read_xlsx
from ragft_pipeline.corpus.readers.pdf import read_pdf
from ragft_pipeline.corpus.readers.plain import (
    read_csv,
    read_html,
    read_json,
    read_mdx,
    read_plain,
    read_rtf,
    read_xhtml,
)
from ragft_pipeline.corpus.readers.restructured import read_rst
from ragft_pipeline.corpus.readers.word import read_docx
from ragft_pipeline.settings import CorpusSettings

__all__ = [
    "MARKDOWN_SUFFIXES",
    "READER_VERSION",
    "Reading",
    "SkippedDocument",
    "normalise",
    "read_document",
    "read_text",
]

READER_VERSION = 6  # raise it when the text of some document would come out differently
Reader = Callable[[bytes, CorpusSettings], Reading]
_READERS: dict[str, Reader] = {
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_xhtml,
    ".docx": read_docx,
    ".pdf": read_pdf,
    ".pptx": read_pptx,
    ".xlsx": read_xlsx,
    ".odt": read_odt,
    ".epub": read_epub,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".rst": read_rst,
    ".adoc": read_asciidoc,
    ".asciidoc": read_asciidoc,
    ".ipynb": read_notebook,
    ".eml": read_mail,
    ".rtf": read_rtf,
    ".mdx": read_mdx,
    ".json": read_json,
    ".jsonl": read_json,
    ".ndjson": read_json,
}
_NAMED_BY_FILE = (".csv", ".tsv", ".xlsx", ".json", ".jsonl", ".ndjson")


def read_document(path: str, data: bytes, settings: CorpusSettings) -> Reading:
    """Return the normalised text of a document, its title where the format has one, its doubts.

    Raises SkippedDocument with the reason where there is no text to be had.
    """
    if not data.strip():
        raise SkippedDocument("empty file")
    suffix = PurePosixPath(path).suffix.lower()
    try:
        reading = _READERS.get(suffix, read_plain)(data, settings)
    except SkippedDocument:
        raise
    except Exception as error:  # a library met something it does not know
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SkippedDocument(f"cannot be read: {first[:200]}") from None
    text = normalise(reading.text)
    if not text:
        raise SkippedDocument("no text in it (a scan or an empty page?)")
    if len(text) > settings.max_text_mb * 1e6:
        raise SkippedDocument(f"text longer than corpus.max_text_mb ({settings.max_text_mb:g})")
    measured = legibility(text)
    if measured.hopeless:
        raise SkippedDocument(f"its text is garbage: {measured.hopeless}")
    title = normalise(reading.title)
    if not title and suffix in _NAMED_BY_FILE:
        title = PurePosixPath(path).stem
    read = replace(reading, text=text, title=title.replace("\n", " ")[:120])
    read = _without_front_matter(read) if suffix in MARKDOWN else read
    doubts = [*read.warnings, *([measured.doubt] if measured.doubt else [])]
    return replace(read, warnings=tuple(doubts))


def _without_front_matter(reading: Reading) -> Reading:
    """Return a document whose front matter is metadata; a text of nothing else stays as it is."""
    front = front_matter_end(reading.text)
    if not reading.text[front:].strip():
        return reading
    metadata, left_out = kept_metadata(metadata_of(reading.text))
    line = left_out_line(left_out)
    return replace(
        reading,
        text=reading.text[front:],
        title=reading.title or (title_of(reading.text) if front else ""),
        warnings=(*reading.warnings, *([line] if line else [])),
        metadata=metadata,
        front=front,
    )


def read_text(path: str, data: bytes, settings: CorpusSettings) -> str:
    """Return the normalised text of a document; see read_document."""
    return read_document(path, data, settings).text
