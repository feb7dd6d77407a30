"""The lines of a PDF's pages with their places: tables in rows, no page headers."""

from __future__ import annotations

import ctypes
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ragft_pipeline.corpus.readers.tables import row_line

_MARGIN = 0.15  # of the page's height, at either end, where headers and footers stand
_EDGE_LINES = 4  # that a header or a footer may have
_CUT = (0x02, 0xFFFE)  # where pdfium saw a word that a line's end cuts
_LINE_ENDS = (10, 13, *_CUT)


@dataclass
class Segment:
    """Words of a line with no wide gap between them; x in points."""

    text: str
    left: float
    right: float


@dataclass
class Line:
    """A line of a page; `top` and `bottom` in points from the page's lower edge."""

    segments: list[Segment]
    bottom: float
    top: float
    size: float

    @property
    def text(self) -> str:
        """Its words."""
        return " ".join(segment.text for segment in self.segments)


def lines_of(page: Any) -> list[Line]:
    """Return the page's lines in pdfium's order, with their places."""
    from pypdfium2 import raw

    textpage = page.get_textpage()
    count = textpage.count_chars()
    codes = [raw.FPDFText_GetUnicode(textpage, place) for place in range(count)]
    lines: list[Line] = []
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


def _line(textpage: Any, codes: Sequence[int], start: int, end: int, raw: Any) -> Line | None:
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
    segments: list[Segment] = []
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
            segments.append(Segment(text, left, right))
    return Line(segments, min(bottoms), max(tops), round(max(size, max(tops) - min(bottoms)), 1))


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


def edges_of(lines: Sequence[Line], height: float) -> list[Line]:
    """Return the lines at the page's upper and lower edge that a gap parts from the others."""
    found: list[Line] = []
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


def drop_repeated(pages: list[list[Line]], edges: Sequence[Sequence[Line]]) -> None:
    """Drop what stands at the edge of many pages alike, but for its numbers."""
    seen = Counter(key for lines in edges for key in {_alike(line) for line in lines})
    often = {key for key, count in seen.items() if count >= max(3, 0.4 * len(pages))}
    for lines, own in zip(pages, edges):
        dropped = [id(line) for line in own if _alike(line) in often]
        lines[:] = [line for line in lines if id(line) not in dropped]


def _alike(line: Line) -> str:
    return re.sub(r"\d+|\b[ivxl]{1,6}\b", "0", line.text)


def page_text(lines: Sequence[Line]) -> Iterator[str]:
    """Yield a page's lines: rows of tables as `a | b`, an empty line between paragraphs."""
    pitches = [
        above.bottom - below.bottom
        for above, below in pairwise(lines)
        if 0 < above.bottom - below.bottom < 2 * above.size
    ]
    pitch = statistics.median(pitches) if pitches else 0.0
    place = 0
    previous: Line | None = None
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


def _table(lines: Sequence[Line], start: int) -> list[str]:
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
