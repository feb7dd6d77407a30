"""From a file's bytes to its text, through LlamaIndex's readers; documents are untrusted."""

from __future__ import annotations

import io
import logging
import re
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragft_pipeline.corpus.sources import SkippedDocument
from ragft_pipeline.settings import CorpusSettings

if TYPE_CHECKING:
    from llama_index.core.readers.base import BaseReader

READER_VERSION = 2  # raise it when the text of some document would come out differently
MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdx", ".html", ".htm")
_MAX_PDF_PAGES = 5000
_MAX_UNZIPPED = 50


def read_text(path: str, data: bytes, settings: CorpusSettings) -> str:
    """Return the normalised text of a document.

    HTML comes out with Markdown headings and list marks, so that chunking can follow them.

    Raises SkippedDocument with the reason where there is no text to be had.
    """
    if not data.strip():
        raise SkippedDocument("empty file")
    suffix = Path(path).suffix.lower()
    _GUARDS.get(suffix, lambda _data, _settings: None)(data, settings)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"document{suffix}"
        file.write_bytes(data)
        text = normalise("\n\n".join(_load(file, settings)))
    if not text:
        raise SkippedDocument("no text in it (a scan or an empty page?)")
    if len(text) > settings.max_text_mb * 1e6:
        raise SkippedDocument(f"text longer than corpus.max_text_mb ({settings.max_text_mb:g})")
    return text


def normalise(text: str) -> str:
    """Return text whose white space and encoding variants are settled.

    NFC, no byte-order mark, control characters or lone surrogates, LF line ends, no trailing
    blanks, at most one empty line: an edit of these alone leaves the document's digest as it was.
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\ufffe\ud800-\udfff]", "", text)
    text = "\n".join(line.rstrip(" \t\u00a0\u3000") for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _load(file: Path, settings: CorpusSettings) -> list[str]:
    from llama_index.core import SimpleDirectoryReader

    logging.getLogger("pypdf").setLevel(logging.ERROR)
    try:
        documents = SimpleDirectoryReader(
            input_files=[file], file_extractor=_extractors(settings), raise_on_error=True
        ).load_data()
    except Exception as error:
        cause = error.__cause__ if isinstance(error.__cause__, SkippedDocument) else error
        if isinstance(cause, SkippedDocument):
            raise cause from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SkippedDocument(
            f"cannot be read: {reason.replace(str(file), file.name)[:200]}"
        ) from None
    return [document.get_content() for document in documents]


def _extractors(settings: CorpusSettings) -> dict[str, Any]:
    from llama_index.core.readers.base import BaseReader
    from llama_index.core.schema import Document
    from llama_index.readers.file import DocxReader, PDFReader

    class PlainText(BaseReader):
        """Text decoded strictly: LlamaIndex's default drops what it cannot decode."""

        def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
            text = decode(file.read_bytes(), settings.encodings)
            return [Document(text=text, metadata=extra_info or {})]

    class Html(BaseReader):
        """The page's own text, with Markdown headings; no scripts, navigation or footers."""

        def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
            text = html_to_markdown(decode(file.read_bytes(), settings.encodings))
            return [Document(text=text, metadata=extra_info or {})]

    plain: BaseReader = PlainText()
    known: dict[str, BaseReader] = {
        ".html": Html(),
        ".htm": Html(),
        ".pdf": PDFReader(return_full_document=True),
        ".docx": DocxReader(),
    }
    return {suffix: known.get(suffix, plain) for suffix in settings.suffixes}


def decode(data: bytes, encodings: tuple[str, ...]) -> str:
    """Decode strictly: by byte-order mark, else the first of `encodings` that fits."""
    for mark, name in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            encodings = (name,)
    for name in encodings:
        try:
            text = data.decode("utf-8-sig" if name.lower() in ("utf-8", "utf8") else name)
        except (UnicodeDecodeError, LookupError):
            continue
        if "\x00" in text:
            break
        return text
    raise SkippedDocument(
        f"not {' or '.join(encodings)} text; add its encoding to corpus.encodings"
    )


def html_to_markdown(markup: str) -> str:
    """Return the text of a page: headings as `#`, list items as `-`, table rows as `a | b`."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(markup, "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for tag in soup(["script", "style", "template", "nav", "footer", "noscript", "title", "head"]):
        tag.decompose()
    for tag in soup(["h1", "h2", "h3", "h4", "h5", "h6"]):
        tag.replace_with(f"\n\n{'#' * int(tag.name[1])} {tag.get_text(' ', strip=True)}\n\n")
    for tag in soup("tr"):
        cells = [cell.get_text(" ", strip=True) for cell in tag(["td", "th"])]
        tag.replace_with("\n" + " | ".join(cells) + "\n")
    for tag in soup("li"):
        tag.insert(0, "- ")
        tag.append("\n")
    for tag in soup(["p", "div", "ul", "ol", "table", "section", "article", "dt", "dd", "pre"]):
        tag.insert(0, "\n\n")
        tag.append("\n\n")
    for tag in soup("br"):
        tag.replace_with("\n")
    lines = [re.sub(r"\s+", " ", line).strip() for line in soup.get_text().split("\n")]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    return text if not title or re.search(r"^# ", text, re.MULTILINE) else f"# {title}\n\n{text}"


def _guard_pdf(data: bytes, settings: CorpusSettings) -> None:
    from pypdf import PdfReader
    from pypdf.errors import PdfReadError

    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise SkippedDocument("an encrypted PDF")
        if len(reader.pages) > _MAX_PDF_PAGES:
            raise SkippedDocument(f"a PDF of more than {_MAX_PDF_PAGES} pages")
    except SkippedDocument:
        raise
    except (PdfReadError, ValueError, KeyError, RecursionError, OSError) as error:
        raise SkippedDocument(f"an unreadable PDF ({type(error).__name__})") from None
    except Exception as error:  # pypdf leaks AttributeError and more on broken files
        raise SkippedDocument(f"an unreadable PDF ({type(error).__name__})") from None


def _guard_docx(data: bytes, settings: CorpusSettings) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unzipped = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise SkippedDocument("not a DOCX file") from None
    if unzipped > _MAX_UNZIPPED * settings.max_file_mb * 1e6 / 10:
        raise SkippedDocument(f"unpacks to {unzipped / 1e6:.0f} MB")


_GUARDS: dict[str, Callable[[bytes, CorpusSettings], None]] = {
    ".pdf": _guard_pdf,
    ".docx": _guard_docx,
}
