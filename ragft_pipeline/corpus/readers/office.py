"""Slides, spreadsheets, OpenDocument texts and e-books to Markdown."""

from __future__ import annotations

import datetime
import html
import io
import posixpath
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from ragft_pipeline.corpus.readers.archives import member, open_archive, xml_of
from ragft_pipeline.corpus.readers.html_tree import xhtml_as_html
from ragft_pipeline.corpus.readers.kinds import Reading, SkippedDocument, needs
from ragft_pipeline.corpus.readers.markup import html_to_markdown
from ragft_pipeline.corpus.readers.tables import table_markdown
from ragft_pipeline.corpus.readers.word import core_title
from ragft_pipeline.settings import CorpusSettings

_MAX_CELLS = 2_000_000
_ODF = "urn:oasis:names:tc:opendocument:xmlns:"
_DC_TITLE = "{http://purl.org/dc/elements/1.1/}title"
_LEFT_OUT = ("tracked-changes", "annotation", "sequence-decls", "table-of-content", "bibliography")
_ODF_TAGS = {"p": "p", "list": "ul", "list-item": "li", "table": "table", "table-row": "tr",
             "table-cell": "td", "note-body": "p"}  # fmt: skip
_ODF_TEXT = {"s": " ", "tab": " ", "line-break": "<br>"}


def read_pptx(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a presentation's text: a section a slide, its tables and its notes."""
    archive = open_archive(data, ".pptx", settings)
    try:
        from pptx import Presentation
    except ImportError:
        raise needs("python-pptx") from None
    slides, first = [], ""
    for number, slide in enumerate(Presentation(io.BytesIO(data)).slides, 1):
        heading = slide.shapes.title
        title = " ".join(heading.text_frame.text.split()) if heading is not None else ""
        first = first or title
        parts = [f"## {title or f'Slide {number}'}"]
        for shape in _shapes(slide.shapes):
            if heading is not None and shape.shape_id == heading.shape_id:
                continue
            parts.append(_shape_text(shape))
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            parts.append(slide.notes_slide.notes_text_frame.text)
        slides.append("\n\n".join(part for part in parts if part.strip()))
    title = core_title(archive) or first
    return Reading("\n\n".join([*([f"# {title}"] if title else []), *slides]), title)


def _shapes(shapes: Any) -> Iterator[Any]:
    waiting = list(shapes)[::-1]
    while waiting:
        shape = waiting.pop()
        if hasattr(shape, "shapes"):
            waiting.extend(list(shape.shapes)[::-1])
        else:
            yield shape


def _shape_text(shape: Any) -> str:
    if getattr(shape, "has_table", False) and shape.has_table:
        return table_markdown([[cell.text for cell in row.cells] for row in shape.table.rows])
    if not shape.has_text_frame:
        return ""
    paragraphs = [(p.level, " ".join(p.text.split())) for p in shape.text_frame.paragraphs]
    paragraphs = [(level, text) for level, text in paragraphs if text]
    if len(paragraphs) < 2:
        return "".join(text for _, text in paragraphs)
    return "\n".join(f"{'  ' * level}- {text}" for level, text in paragraphs)


def read_xlsx(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a workbook's values: a section and a table a sheet."""
    archive = open_archive(data, ".xlsx", settings)
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise needs("openpyxl") from None
    workbook = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    parts, left = [], _MAX_CELLS
    for sheet in workbook.worksheets:
        sheet.reset_dimensions()
        rows = []
        for row in sheet.iter_rows(values_only=True):
            left -= max(1, len(row))
            if left < 0:
                raise SkippedDocument(f"a workbook of more than {_MAX_CELLS:,} cells")
            rows.append([_value(value) for value in row])
        table = table_markdown(rows)
        if table:
            parts.append(f"## {sheet.title}\n\n{table}")
    title = core_title(archive)
    return Reading("\n\n".join([*([f"# {title}"] if title and parts else []), *parts]), title)


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value)


def read_odt(data: bytes, settings: CorpusSettings) -> Reading:
    """Return an OpenDocument text with its headings, lists and tables."""
    archive = open_archive(data, ".odt", settings)
    root = xml_of(archive, "content.xml")
    titles = {"Title"} | {
        style.get(f"{{{_ODF}style:1.0}}name", "")
        for style in root.iter(f"{{{_ODF}style:1.0}}style")
        if style.get(f"{{{_ODF}style:1.0}}parent-style-name") == "Title"
    }
    out: list[str] = []
    body = root.find(f".//{{{_ODF}office:1.0}}text")
    for element, entering in _both_ways(body if body is not None else root):
        name = element.tag.rsplit("}", 1)[-1]
        if name == "h" or (name == "p" and element.get(f"{{{_ODF}text:1.0}}style-name") in titles):
            level = element.get(f"{{{_ODF}text:1.0}}outline-level", "1")
            tag = f"h{min(6, int(level) + 1) if name == 'h' and level.isdecimal() else 1}"
        else:
            tag = _ODF_TAGS.get(name, "")
        if entering:
            repeated = element.get(f"{{{_ODF}table:1.0}}number-columns-spanned", "")
            span = f" colspan={repeated}" if name == "table-cell" and repeated.isdecimal() else ""
            out.append(f"<{tag}{span}>" if tag else _ODF_TEXT.get(name, ""))
            out.append(html.escape(element.text or ""))
        else:
            out.append((f"</{tag}>" if tag else "") + html.escape(element.tail or ""))
    title = ""
    if "meta.xml" in archive.namelist():
        title = " ".join((xml_of(archive, "meta.xml").findtext(f".//{_DC_TITLE}") or "").split())
    reading = html_to_markdown("<body>" + "".join(out))
    first = next((row[2:] for row in reading.text.split("\n") if row.startswith("# ")), "")
    return Reading(reading.text, first or title)


def _both_ways(top: Any) -> Iterator[tuple[Any, bool]]:
    """Yield the elements under `top` on entering and on leaving, without recursion."""
    waiting: list[tuple[Any, bool]] = [(child, True) for child in reversed(top)]
    while waiting:
        element, entering = waiting.pop()
        left_out = element.tag.rsplit("}", 1)[-1] in _LEFT_OUT
        if not (entering and left_out):
            yield element, entering
        if entering:
            waiting.append((element, False))
            if not left_out:
                waiting.extend((child, True) for child in reversed(element))


def read_epub(data: bytes, settings: CorpusSettings) -> Reading:
    """Return an e-book's chapters, in the order of its spine."""
    archive = open_archive(data, ".epub", settings)
    if "META-INF/encryption.xml" in archive.namelist() and b"idpf.org/2008/embedding" not in member(
        archive, "META-INF/encryption.xml"
    ):
        raise SkippedDocument("an encrypted e-book (DRM)")
    roots = [
        element.get("full-path", "")
        for element in xml_of(archive, "META-INF/container.xml").iter()
        if element.tag.endswith("}rootfile")
    ]
    if not roots:
        raise SkippedDocument("not an .epub file: it names no package")
    package = xml_of(archive, roots[0])
    files = {
        item.get("id"): posixpath.normpath(
            posixpath.join(posixpath.dirname(roots[0]), unquote(item.get("href", "")))
        )
        for item in package.iter()
        if item.tag.endswith("}item") and "html" in item.get("media-type", "")
    }
    chapters = []
    for itemref in package.iter():
        if itemref.tag.endswith("}itemref") and itemref.get("idref") in files:
            page = member(archive, files[itemref.get("idref")]).decode("utf-8", "replace")
            chapters.append(html_to_markdown(xhtml_as_html(page)).text)
    title = " ".join((package.findtext(f".//{_DC_TITLE}") or "").split())
    text = "\n\n".join(chapter for chapter in chapters if chapter)
    if title and text and not text.startswith(f"# {title}"):
        text = f"# {title}\n\n{text}"
    return Reading(text, title)
