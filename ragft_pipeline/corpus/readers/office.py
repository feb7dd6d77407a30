"""Slides, spreadsheets, OpenDocument texts and e-books to Markdown."""

from __future__ import annotations

import datetime
import html
import io
import posixpath
import re
import zipfile
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
_NO_VALUE = re.compile(rb"</f>\s*(?:<v\s*/>|<v>\s*</v>|</c>)")
_MERGED = re.compile(rb'<mergeCell ref="([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})"')
_ODF = "urn:oasis:names:tc:opendocument:xmlns:"
_DC_TITLE = "{http://purl.org/dc/elements/1.1/}title"
_LEFT_OUT = ("tracked-changes", "annotation", "sequence-decls", "table-of-content", "bibliography")
_ODF_TAGS = {"p": "p", "list": "ul", "list-item": "li", "table": "table", "table-row": "tr",
             "table-cell": "td"}  # fmt: skip
_ODF_SPANS = {"columns": "colspan", "rows": "rowspan"}
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
    if getattr(shape, "has_table", False):
        return table_markdown(_table_rows(shape.table))
    if getattr(shape, "has_chart", False):
        return table_markdown(_chart_rows(shape.chart))
    if not shape.has_text_frame:
        return ""
    paragraphs = [(p.level, " ".join(p.text.split())) for p in shape.text_frame.paragraphs]
    paragraphs = [(level, text) for level, text in paragraphs if text]
    if len(paragraphs) < 2:
        return "".join(text for _, text in paragraphs)
    return "\n".join(f"{'  ' * level}- {text}" for level, text in paragraphs)


def _table_rows(table: Any) -> list[list[str]]:
    """Return a table's cells; one that reaches down stands in each of its rows."""
    rows = [[cell.text for cell in row.cells] for row in table.rows]
    for number, row in enumerate(table.rows):
        for place, cell in enumerate(row.cells):
            if cell.is_merge_origin:
                for below in rows[number + 1 : number + cell.span_height]:
                    below[place] = cell.text
    return rows


def _chart_rows(chart: Any) -> list[list[str]]:
    """Return a chart's values, a row a category."""
    plot = next(iter(chart.plots), None)
    if plot is None:
        return []
    series = [(one.name, list(one.values)) for one in plot.series]
    rows = [["", *(name for name, _ in series)]]
    for place, category in enumerate(plot.categories):
        values = (own[place] if place < len(own) else None for _, own in series)
        rows.append([str(category), *map(_value, values)])
    return rows


def read_xlsx(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a workbook's values: a section and a table a sheet."""
    archive = open_archive(data, ".xlsx", settings)
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise needs("openpyxl") from None
    workbook = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    parts, left, without = [], _MAX_CELLS, 0
    for sheet in workbook.worksheets:
        sheet.reset_dimensions()
        rows = []
        for row in sheet.iter_rows():
            left -= max(1, len(row))
            if left < 0:
                raise SkippedDocument(f"a workbook of more than {_MAX_CELLS:,} cells")
            rows.append([_shown(cell) for cell in row])
        markup = member(archive, sheet._worksheet_path)
        without += len(_NO_VALUE.findall(markup))
        _fill_merged(rows, markup)
        tables = "\n\n".join(map(table_markdown, _tables(rows)))
        if tables:
            parts.append(f"## {sheet.title}\n\n{tables}")
    doubt = f"formulas without a value: {without}; open it in a spreadsheet and save it"
    title = core_title(archive)
    text = "\n\n".join([*([f"# {title}"] if title and parts else []), *parts])
    return Reading(text, title, (doubt,) if without else ())


def _shown(cell: Any) -> str:
    """Return a cell as a person sees it, as far as that is no matter of looks."""
    value = cell.value
    if isinstance(value, int | float) and "%" in cell.number_format:
        return f"{100 * value:.12g}%"
    return _value(value)


def _fill_merged(rows: list[list[str]], markup: bytes) -> None:
    """Let a cell that reaches down stand in each of its rows."""
    from openpyxl.utils.cell import range_boundaries

    for area in _MERGED.findall(markup):
        left, top, _, bottom = range_boundaries(area.decode())
        if top <= len(rows) and left <= len(rows[top - 1]):
            for row in rows[top:bottom]:
                if left <= len(row):
                    row[left - 1] = rows[top - 1][left - 1]


def _tables(rows: list[list[str]]) -> Iterator[list[list[str]]]:
    """Yield the tables of a sheet: a new one begins at a caption below an empty row."""
    start = 0
    for place in range(1, len(rows)):
        if (
            not any(rows[place - 1])
            and sum(map(bool, rows[place])) == 1
            and any(map(any, rows[start:place]))
        ):
            yield rows[start:place]
            start = place
    yield rows[start:]


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
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
    ordered = _ordered_lists(archive, root)
    lists: list[str] = []  # the open ones' styles
    noted = 0
    out: list[str] = []
    body = root.find(f".//{{{_ODF}office:1.0}}text")
    for element, entering in _both_ways(body if body is not None else root):
        name = element.tag.rsplit("}", 1)[-1]
        if name == "h" or (name == "p" and element.get(f"{{{_ODF}text:1.0}}style-name") in titles):
            level = element.get(f"{{{_ODF}text:1.0}}outline-level", "1")
            tag = f"h{min(6, int(level) + 1) if name == 'h' and level.isdecimal() else 1}"
        else:
            tag = _ODF_TAGS.get(name, "")
        if name == "note-body":
            noted += 1 if entering else -1
        elif noted and tag:  # a note stands amid its sentence
            tag = "span"
        if name == "list":
            if entering:
                own = element.get(f"{{{_ODF}text:1.0}}style-name")
                lists.append(own or (lists[-1] if lists else ""))
            tag = "ol" if (lists[-1], len(lists)) in ordered else "ul"
            if not entering:
                lists.pop()
        if entering:
            spans = {
                html_name: element.get(f"{{{_ODF}table:1.0}}number-{side}-spanned", "")
                for side, html_name in _ODF_SPANS.items()
            }
            given = "".join(f" {one}={n}" for one, n in spans.items() if n.isdecimal())
            out.append(f"<{tag}{given}>" if tag else _ODF_TEXT.get(name, ""))
            out.append("[" if name == "note-citation" else "(" if name == "note-body" else "")
            out.append(html.escape(element.text or ""))
        else:
            out.append("] " if name == "note-citation" else ")" if name == "note-body" else "")
            out.append((f"</{tag}>" if tag else "") + html.escape(element.tail or ""))
    title = ""
    if "meta.xml" in archive.namelist():
        title = " ".join((xml_of(archive, "meta.xml").findtext(f".//{_DC_TITLE}") or "").split())
    reading = html_to_markdown("<body>" + "".join(out))
    first = next((row[2:] for row in reading.text.split("\n") if row.startswith("# ")), "")
    return Reading(reading.text, first or title)


def _ordered_lists(archive: zipfile.ZipFile, root: Any) -> set[tuple[str, int]]:
    """Return the list styles that count, by name and level."""
    text = f"{{{_ODF}text:1.0}}"
    roots = [root, *(xml_of(archive, n) for n in ("styles.xml",) if n in archive.namelist())]
    return {
        (style.get(f"{{{_ODF}style:1.0}}name", ""), int(level.get(f"{text}level", "1")))
        for one in roots
        for style in one.iter(f"{text}list-style")
        for level in style.iter(f"{text}list-level-style-number")
    }


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
