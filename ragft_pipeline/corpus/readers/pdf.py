"""PDF to text by pdfium: tables in rows, words joined over line ends, no page headers."""

from __future__ import annotations

import ctypes
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ragft_pipeline.corpus.readers.kinds import Reading, SkippedDocument
from ragft_pipeline.corpus.readers.legibility import is_common_word
from ragft_pipeline.corpus.readers.tables import row_line
from ragft_pipeline.settings import CorpusSettings

_MAX_PAGES = 5000
_MARGIN = 0.15  # of the page's height, at either end, where headers and footers stand
_EDGE_LINES = 4  # that a header or a footer may have
_HYPHENS = "-\u00ad\u2010\x02\ufffe"
_CUT = (0x02, 0xFFFE)  # where pdfium saw a word that a line's end cuts
_LINE_ENDS = (10, 13, *_CUT)
_CUT_WORD = re.compile(rf"([^\W\d_]+)[{_HYPHENS}]$")
_BEGUN_WORD = re.compile(r"([^\W\d_]+)(\S*)")
_NO_TITLE = re.compile(
    r"^(?:untitled|\(?anonymous\)?|\(?unspecified\)?|document\d*|slide \d+)$"
    r"|\.(?:docx?|pdf|indd|tex|dvi|qxd|pptx?|xlsx?|rtf)$",
    re.IGNORECASE,
)


@dataclass
class _Segment:
    """Words of a line with no wide gap between them; x in points."""

    text: str
    left: float
    right: float


@dataclass
class _Line:
    """A line of a page; `top` and `bottom` in points from the page's lower edge."""

    segments: list[_Segment]
    bottom: float
    top: float
    size: float

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)


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
    pages: list[list[_Line]] = []
    edges: list[list[_Line]] = []
    fields: list[list[str]] = []
    without, characters = 0, 0
    for number in range(count):
        page = document[number]
        pages.append(_lines(page))
        edges.append(_edges(pages[-1], page.get_height()))
        fields.append(list(_fields(document, page)))
        characters += sum(len(line.text) for line in pages[-1])
        if characters > settings.max_text_mb * 1e6:
            raise SkippedDocument(f"text longer than corpus.max_text_mb ({settings.max_text_mb:g})")
        without += not pages[-1] and not fields[-1]
        page.close()
    _drop_repeated(pages, edges)
    title = _title(document, pages)
    known = _vocabulary(pages)
    parts: list[str] = []
    for lines, values in zip(pages, fields):
        text = "\n".join(_joined(_page_text(lines), known))
        parts += ["\n\n".join(filter(None, [text, "\n".join(values)]))]
    parts = [part for part in parts if part]
    return Reading(_pages_joined(parts, known), title, tuple(_doubts(document, without, count)))


def _doubts(document: Any, without: int, count: int) -> Iterator[str]:
    if 0 < without < count and (without > 1 or without * 5 >= count):
        yield f"{without} of {count} pages have no text (scans? run OCR on it)"
    attached = [_attachment(document, n) for n in range(min(20, document.count_attachments()))]
    if attached:
        yield f"attachments are not read: {', '.join(attached)[:200]}"


def _attachment(document: Any, number: int) -> str:
    return str(document.get_attachment(number).get_name()) or "without a name"


def _lines(page: Any) -> list[_Line]:
    """Return the page's lines in pdfium's order, with their places."""
    from pypdfium2 import raw

    textpage = page.get_textpage()
    count = textpage.count_chars()
    codes = [raw.FPDFText_GetUnicode(textpage, place) for place in range(count)]
    lines: list[_Line] = []
    start = 0
    for place in range(count + 1):
        if place == count or codes[place] in _LINE_ENDS:
            cut = place < count and codes[place] in _CUT
            line = _line(textpage, codes, start, place + cut, raw)
            if line is not None:
                lines.append(line)
            start = place + 1
    textpage.close()
    return lines


def _line(textpage: Any, codes: Sequence[int], start: int, end: int, raw: Any) -> _Line | None:
    words: list[tuple[int, int]] = []
    begin = start
    for place in range(start, end + 1):
        if place == end or codes[place] in (32, 160, 9):
            if place > begin:
                words.append((begin, place))
            begin = place + 1
    if not words:
        return None
    size = float(raw.FPDFText_GetFontSize(textpage, words[0][0])) or 10.0
    segments: list[_Segment] = []
    bottoms, tops = [], []
    for first, after in words:
        left, _, bottom, top = _box(textpage, first, raw)
        right = _box(textpage, after - 1, raw)[1]
        bottoms.append(bottom)
        tops.append(top)
        text = _decoded(codes[first:after])
        gap = left - segments[-1].right if segments else 0.0
        if segments and gap <= max(size, top - bottom):
            segments[-1].text += f" {text}"
            segments[-1].right = right
        else:
            segments.append(_Segment(text, left, right))
    return _Line(segments, min(bottoms), max(tops), round(max(size, max(tops) - min(bottoms)), 1))


def _box(textpage: Any, place: int, raw: Any) -> tuple[float, float, float, float]:
    """Return a character's left, right, bottom and top."""
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    raw.FPDFText_GetCharBox(textpage, place, left, right, bottom, top)
    return left.value, right.value, bottom.value, top.value


def _decoded(codes: Sequence[int]) -> str:
    text = "".join(map(chr, codes))
    if any(0xD800 <= code <= 0xDFFF for code in codes):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\x00", "\ufffd")


def _edges(lines: Sequence[_Line], height: float) -> list[_Line]:
    """Return the lines at the page's upper and lower edge that a gap parts from the others."""
    found: list[_Line] = []
    by_place = sorted(lines, key=lambda line: -line.bottom)
    gaps = [above.bottom - below.bottom for above, below in pairwise(by_place)]
    wide = 1.25 * statistics.median(gaps) if gaps else 0.0
    for ordered, steps in ((by_place, gaps), (by_place[::-1], gaps[::-1])):
        near = [
            line for line in ordered[:_EDGE_LINES]
            if not _MARGIN < (line.top + line.bottom) / 2 / height < 1 - _MARGIN
        ]  # fmt: skip
        end = next((n + 1 for n, step in enumerate(steps[: len(near)]) if step > wide), 0)
        found += near[:end]
    return found


def _drop_repeated(pages: list[list[_Line]], edges: Sequence[Sequence[_Line]]) -> None:
    """Drop what stands at the edge of many pages alike, but for its numbers."""
    seen = Counter(key for lines in edges for key in {_alike(line) for line in lines})
    often = {key for key, count in seen.items() if count >= max(3, 0.4 * len(pages))}
    for lines, own in zip(pages, edges):
        dropped = [id(line) for line in own if _alike(line) in often]
        lines[:] = [line for line in lines if id(line) not in dropped]


def _alike(line: _Line) -> str:
    return re.sub(r"\d+|\b[ivxl]{1,6}\b", "0", line.text)


def _page_text(lines: Sequence[_Line]) -> Iterator[str]:
    """Yield a page's lines: rows of tables as `a | b`, an empty line between paragraphs."""
    pitches = [
        above.bottom - below.bottom
        for above, below in pairwise(lines)
        if 0 < above.bottom - below.bottom < 2 * above.size
    ]
    pitch = statistics.median(pitches) if pitches else 0.0
    place = 0
    previous: _Line | None = None
    while place < len(lines):
        line = lines[place]
        if previous is not None and pitch:
            step = previous.bottom - line.bottom
            if step > 1.4 * pitch or step < -pitch or line.size > 1.2 * previous.size:
                yield ""
        rows = _table(lines, place)
        if rows:
            yield from rows
            place += len(rows)
        else:
            yield line.text
            place += 1
        previous = lines[place - 1]


def _table(lines: Sequence[_Line], start: int) -> list[str]:
    """Return the rows of a table that begins at a line; none where it does not."""
    end = start
    while end < len(lines) and len(lines[end].segments) > 1:
        end += 1
    if end - start < 2:
        return []
    columns: list[list[float]] = []
    spans = sorted((s.left, s.right) for line in lines[start:end] for s in line.segments)
    for left, right in spans:
        if columns and left < columns[-1][1]:
            columns[-1][1] = max(columns[-1][1], right)
        else:
            columns.append([left, right])
    if not 1 < len(columns) <= 2 * max(len(line.segments) for line in lines[start:end]):
        return []
    rows = []
    for line in lines[start:end]:
        cells: dict[int, str] = {}
        for segment in line.segments:
            place = next(n for n, (_, right) in enumerate(columns) if segment.left <= right)
            cells[place] = f"{cells[place]} {segment.text}" if place in cells else segment.text
        rows.append(row_line(cells))
    return rows


def _vocabulary(pages: Sequence[Sequence[_Line]]) -> Counter[str]:
    """Return the words that stand uncut in the document, hyphens included."""
    words: Counter[str] = Counter()
    for lines in pages:
        for line in lines:
            words.update(
                re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*(?![-\w\x02\ufffe])", line.text.lower())
            )
    return words


def _joined(lines: Iterable[str], known: Counter[str]) -> list[str]:
    """Return lines with the words put together that a line's end cut."""
    out: list[str] = []
    for line in lines:
        cut = _CUT_WORD.search(out[-1]) if out else None
        rest = _BEGUN_WORD.match(line)
        if cut is None or rest is None or not _is_one_word(cut[1], rest[1]):
            out.append(line)
            continue
        whole, hyphened = cut[1] + rest[1], f"{cut[1]}-{rest[1]}"
        word = hyphened if known[hyphened.lower()] > known[whole.lower()] else whole
        out[-1] = f"{out[-1][: cut.start()]}{word}{rest[2]}"
        if below := line[rest.end() :].lstrip():
            out.append(below)
    return [line.replace("\x02", "-").replace("\ufffe", "-") for line in out]


def _is_one_word(before: str, after: str) -> bool:
    return after[0].islower() and is_common_word(before + after)


def _pages_joined(parts: Sequence[str], known: Counter[str]) -> str:
    """Return pages as one text; a sentence that runs over a page's end stays whole."""
    text = ""
    for part in parts:
        if text and part[:1].islower() and text[-1] not in ".!?:;":
            before, _, last = text.rpartition("\n")
            first, _, after = part.partition("\n")
            joined = _joined([last, first], known)
            text = "\n".join(filter(None, [before, *joined, after]))
        else:
            text += ("\n\n" if text else "") + part
    return text


def _title(document: Any, pages: Sequence[Sequence[_Line]]) -> str:
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
