"""Cutting a text into nodes: along headings, then sentences; sizes in tokens of the embedder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import regex

from ragft_pipeline.corpus.markdown import Heading, body_start, headings
from ragft_pipeline.corpus.sentences import sentence_spans
from ragft_pipeline.settings import ChunkingSettings

CHARACTERS_A_TOKEN = 8  # at most: nodes are bounded in characters by it


@dataclass(frozen=True)
class Span:
    """A piece of a document: characters start to end, under headings, the outermost first."""

    start: int
    end: int
    path: tuple[str, ...] = ()


class Splitter:
    """Cuts one document: along Markdown headings where it has them, else along sentences.

    Small neighbouring sections are joined up to the node size, so that a heading with two lines
    below it does not become a node of its own; long ones are cut between sentences. What is longer
    than a node by itself is cut between clauses, then words, then characters.
    """

    def __init__(self, settings: ChunkingSettings, tokenize: Callable[[str], list[int]]) -> None:
        self._settings = settings
        self._tokenize = tokenize

    def cut(self, text: str, markdown: bool) -> list[dict[str, Any]]:
        """Return the document's nodes: text, heading path, character span, tokens.

        Front matter is in no node, unless there is nothing else.
        """
        start = body_start(text) if markdown else 0
        start = start if text[start:].strip() else 0
        along = markdown and self._settings.markdown
        spans = self._join(text, sections(text, start)) if along else [Span(start, len(text))]
        nodes = []
        for span in spans:
            for start, end in self._fit(text, span):
                piece = text[start:end]
                nodes.append(
                    {
                        "text": piece,
                        "heading_path": list(span.path),
                        "start": start,
                        "end": end,
                        "tokens": len(self._tokenize(piece)),
                    }
                )
        return nodes

    def _size(self, text: str) -> int:
        """Return a size in tokens, of which none counts for more than CHARACTERS_A_TOKEN.

        To many tokenizers a word that they do not know is one token, however long.
        """
        return max(len(self._tokenize(text)), -(-len(text) // CHARACTERS_A_TOKEN))

    def _join(self, text: str, sections: Sequence[Span]) -> list[Span]:
        joined: list[Span] = []
        sizes: list[int] = []
        for span in sections:
            size = self._size(text[span.start : span.end])
            if joined and sizes[-1] + size <= self._settings.size:
                joined[-1] = Span(joined[-1].start, span.end, joined[-1].path)
                sizes[-1] += size
            else:
                joined.append(span)
                sizes.append(size)
        return joined

    def _fit(self, text: str, span: Span) -> Iterator[tuple[int, int]]:
        """Yield where the span's nodes are: as many whole sentences as fit, and an overlap."""
        units = list(self._units(text, span.start, span.end))
        first = total = 0
        for place, (*_, size) in enumerate(units):
            if place > first and total + size > self._settings.size:
                yield _trimmed(text, units[first][0], units[place - 1][1])
                first, total = place, 0
                room = min(self._settings.overlap, self._settings.size - size)
                while total + units[first - 1][2] <= room:
                    first -= 1
                    total += units[first][2]
            total += size
        if units:
            yield _trimmed(text, units[first][0], units[-1][1])

    def _units(
        self, text: str, start: int, end: int, level: int = 0
    ) -> Iterator[tuple[int, int, int]]:
        """Yield the parts of a text that are not cut, side by side: start, end and size.

        Within a word a part may take a token more than it does as a word of its own.
        """
        size = self._size(text[start:end])
        if size <= self._settings.size or level == len(_CUTS):
            yield start, end, size + (level >= _WITHIN_WORDS)
            return
        places = _CUTS[level](text[start:end])
        for begin, stop in pairwise([start, *(start + place for place in places), end]):
            if text[begin:stop].strip():
                yield from self._units(text, begin, stop, level + 1)


def _sentence_starts(text: str) -> list[int]:
    return [start for start, _ in sentence_spans(text)][1:]


def _starts_of(pattern: regex.Pattern[str], text: str) -> list[int]:
    return [found.start() for found in pattern.finditer(text)][1:]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


# Where a text may be cut, from the best places to the worst. A word counts as one token at most so
# long, and a letter with all its marks may be as long as one likes.
_CUTS: tuple[Callable[[str], list[int]], ...] = (
    _sentence_starts,
    *(
        partial(_starts_of, regex.compile(pattern))
        for pattern in (
            r"[^,;:，、；：،؛\n]+[,;:，、；：،؛\n]*|[,;:，、；：،؛\n]+",
            r"\s*\S+\s*",
            r"\X{1,50}",
            r"(?s).{1,50}",
        )
    ),
)
_WITHIN_WORDS = 4  # cuts from which on parts are no whole words


def sections(text: str, start: int = 0) -> list[Span]:
    """Return the parts of a Markdown text from `start` on, each from a heading to the next."""
    spans = [Span(start, len(text))]
    above: list[Heading] = []
    for heading in headings(text):
        above = [*(one for one in above if one.level < heading.level), heading]
        spans[-1] = Span(spans[-1].start, heading.start, spans[-1].path)
        spans.append(Span(heading.start, len(text), tuple(one.text for one in above)))
    return [span for span in spans if text[span.start : span.end].strip()]
