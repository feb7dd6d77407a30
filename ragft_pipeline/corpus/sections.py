"""A document as its sections: what is split where documents cannot be.

One manual, or contracts that are all near-duplicates of each other, hold nothing between them
that could be held out. Their sections do: each is frozen as a text of its own, with its own path
(`manual.md § Cleaning`), cluster and split, so that all that holds for documents holds for them:
an edit stays in its split, equal sections of several contracts are one, no chunk crosses a border.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from ragft_pipeline.corpus.markdown import body_start, headings

MARK = " § "
_LARGE, _ENOUGH = 3000, 800  # characters of a piece of a long section, at most and about
_WORDS = re.compile(r"\w")
_BLANK = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|(?<=[。！？])\s*|\n")


class Level(IntEnum):
    """What of a file is split as one: all of it, a section of it, a paragraph of it."""

    WHOLE = 0
    SECTION = 1
    PARAGRAPH = 2


@dataclass(frozen=True)
class Part:
    """A piece of a file's text, characters start to end, and the path that it goes by."""

    path: str
    start: int
    end: int
    heading: str = ""

    def doc_key(self, text: str) -> str:
        """Return the digest of the piece of `text`."""
        return hashlib.sha256(text[self.start : self.end].encode()).hexdigest()


def file_of(path: str) -> str:
    """Return the file of a part's path; of a file's own path, itself."""
    return path.split(MARK, 1)[0]


def cut(file: str, text: str, markdown: bool, level: Level) -> list[Part]:
    """Return the parts of a file's text, in order, without white space and front matter between.

    Sections begin at Markdown headings, and one without a text of its own goes with the next. Long
    sections are cut between paragraphs, at places that the paragraphs' words decide, so that an
    insertion moves no border but the nearest.
    """
    if level == Level.WHOLE:
        return [Part(file, 0, len(text))]
    spans: list[tuple[int, int, str]] = []
    for start, end, heading in _sections(text) if markdown else [(0, len(text), "")]:
        pieces = (
            _paragraphs(text, start, end)
            if level == Level.PARAGRAPH
            else _pieces(text, start, end)
            if end - start > _LARGE
            else [(start, end)]
        )
        spans += [(*_stripped(text, *piece), heading) for piece in pieces]
    spans = [span for span in spans if span[0] < span[1]]
    if len(spans) < 2:
        return [Part(file, 0, len(text))]
    return [
        Part(path, start, end, heading)
        for path, (start, end, heading) in zip(_paths(file, [h for *_, h in spans]), spans)
    ]


def _paths(file: str, headings: Sequence[str]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for heading in headings:
        name = " ".join(heading.replace("/", " ").replace("\\", " ").split())[:80] or "part"
        seen[name] = number = seen.get(name, 0) + 1
        yield f"{file}{MARK}{name}" + (f" ({number})" if number > 1 else "")


def _sections(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the sections below Markdown headings: start, end, the last heading above the text."""
    begin = body_start(text)
    begin = begin if text[begin:].strip() else 0
    start, heading = begin, ""
    for found in headings(text):
        if _WORDS.search(text, _line_end(text, begin) if heading else begin, found.start):
            yield start, found.start, heading
            start = found.start
        begin, heading = found.start, found.text
    yield start, len(text), heading


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return end if end >= 0 else len(text)


def _paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield a section's paragraphs; headings go with the next."""
    begin = start
    for low, high in _blocks(text, start, end):
        bare = headings(text[low:high]) and not _WORDS.search(text, _line_end(text, low), high)
        if bare and high < end:
            continue
        yield begin, high
        begin = high
    if begin < end:
        yield begin, end


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield a long section in pieces of whole paragraphs, or of sentences of very long ones."""
    begin = start
    for low, high in _atoms(text, start, end):
        if high - begin > _LARGE and low > begin:
            yield begin, low
            begin = low
        digest = hashlib.sha256(" ".join(text[low:high].split()).encode()).digest()
        if high - begin >= _ENOUGH and digest[0] % 3 == 0:
            yield begin, high
            begin = high
    if begin < end:
        yield begin, end


def _blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    yield from _between((match.end() for match in _BLANK.finditer(text, start, end)), start, end)


def _atoms(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for low, high in _blocks(text, start, end):
        if high - low <= _LARGE:
            yield low, high
            continue
        ends = (match.end() for match in _SENTENCE.finditer(text, low, high))
        for first, last in _between(ends, low, high):
            for at in range(first, last, _LARGE):
                yield at, min(at + _LARGE, last)


def _between(borders: Iterable[int], start: int, end: int) -> Iterator[tuple[int, int]]:
    for border in (*borders, end):
        if start < border:
            yield start, border
            start = border


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
