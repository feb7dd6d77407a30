"""PDF to text by pdfium: tables in rows, words joined over line ends, no page headers."""

from __future__ import annotations

import ctypes
import re
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from ragft_pipeline.corpus.readers.kinds import Reading, SkippedDocument
from ragft_pipeline.corpus.readers.pdf_lines import (
    Line,
    drop_repeated,
    edges_of,
    lines_of,
    page_text,
)
from ragft_pipeline.corpus.readers.pdf_words import joined, pages_joined, vocabulary
from ragft_pipeline.settings import CorpusSettings

_MAX_PAGES = 5000
_NO_TITLE = re.compile(
    r"^(?:untitled|\(?anonymous\)?|\(?unspecified\)?|document\d*|slide \d+)$"
    r"|\.(?:docx?|html?|md|txt|odt|pdf|indd|tex|dvi|qxd|pptx?|xlsx?|rtf)$",
    re.IGNORECASE,
)


def read_pdf(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a PDF's text, its form fields' values, and its title.

    The warnings say how many pages have no text, and name the attachments.
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise SkippedDocument("an encrypted PDF: save it without a password") from None
        raise SkippedDocument(f"an unreadable PDF ({_reason(error)})") from None
    try:
        return _read(document, settings)
    except pypdfium2.PdfiumError as error:
        raise SkippedDocument(f"an unreadable PDF ({_reason(error)})") from None
    finally:
        document.close()


def _reason(error: Exception) -> str:
    return str(error).split("PDFium: ")[-1].strip("().")[:80] or type(error).__name__


def _read(document: Any, settings: CorpusSettings) -> Reading:
    count = len(document)
    if count > _MAX_PAGES:
        raise SkippedDocument(f"a PDF of more than {_MAX_PAGES} pages")
    if document.get_formtype():
        document.init_forms()
    pages: list[list[Line]] = []
    edges: list[list[Line]] = []
    fields: list[list[str]] = []
    without, characters = 0, 0
    for number in range(count):
        page = document[number]
        pages.append(lines_of(page))
        edges.append(edges_of(pages[-1], page.get_height()))
        fields.append(list(_fields(document, page)))
        characters += sum(len(line.text) for line in pages[-1])
        if characters > settings.max_text_mb * 1e6:
            raise SkippedDocument(f"text longer than corpus.max_text_mb ({settings.max_text_mb:g})")
        without += not pages[-1] and not fields[-1]
        page.close()
    drop_repeated(pages, edges)
    title = _title(document, pages)
    known = vocabulary(pages)
    parts: list[str] = []
    for lines, values in zip(pages, fields):
        text = "\n".join(joined(page_text(lines), known))
        parts += ["\n\n".join(filter(None, [text, "\n".join(values)]))]
    parts = [part for part in parts if part]
    return Reading(pages_joined(parts, known), title, tuple(_doubts(document, without, count)))


def _doubts(document: Any, without: int, count: int) -> Iterator[str]:
    if 0 < without < count and (without > 1 or without * 5 >= count):
        yield f"{without} of {count} pages have no text (scans? run OCR on it)"
    attached = [_attachment(document, n) for n in range(min(20, document.count_attachments()))]
    if attached:
        yield f"attachments are not read: {', '.join(attached)[:200]}"


def _attachment(document: Any, number: int) -> str:
    return str(document.get_attachment(number).get_name()) or "without a name"


def _title(document: Any, pages: Sequence[Sequence[Line]]) -> str:
    """Return the title that the PDF states and its first pages show; else its largest line."""
    stated = " ".join(str(document.get_metadata_value("Title")).split())
    stated = re.sub(r"^Microsoft (?:Word|PowerPoint) - ", "", stated)
    lines = next((page for page in pages if page), [])
    if stated and not _NO_TITLE.search(stated):
        shown = " ".join(line.text for page in pages[:3] for line in page).lower()
        words = re.findall(r"\w+", stated.lower())
        if sum(word in shown for word in words) * 2 > len(words):
            return stated
    if not lines:
        return ""
    largest = max(line.size for line in lines[:40])
    if largest <= 1.15 * statistics.median(line.size for line in lines):
        return lines[0].text
    first = next(n for n, line in enumerate(lines) if line.size == largest)
    parts = [lines[first].text]
    for line in lines[first + 1 : first + 3]:
        if line.size < 0.95 * largest:
            break
        parts.append(line.text)
    return " ".join(parts)


def _fields(document: Any, page: Any) -> Iterator[str]:
    """Yield the filled fields of a page's form, `name: value`."""
    from pypdfium2 import raw

    if document.formenv is None:
        return
    for number in range(min(5000, raw.FPDFPage_GetAnnotCount(page))):
        annotation = raw.FPDFPage_GetAnnot(page, number)
        if annotation:
            if raw.FPDFAnnot_GetSubtype(annotation) == raw.FPDF_ANNOT_WIDGET:
                name = _string(raw.FPDFAnnot_GetFormFieldName, document.formenv, annotation)
                value = _string(raw.FPDFAnnot_GetFormFieldValue, document.formenv, annotation)
                if value and value != "Off":
                    yield f"{name}: {value}" if name else value
            raw.FPDFPage_CloseAnnot(annotation)


def _string(call: Any, form: Any, annotation: Any) -> str:
    length = call(form, annotation, None, 0)
    if not 2 < length < 100_000:
        return ""
    buffer = ctypes.create_string_buffer(length)
    call(form, annotation, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), length)
    return buffer.raw[: length - 2].decode("utf-16-le", "replace")
