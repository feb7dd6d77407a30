"""Sentences of a text, of any script, by Unicode's marks of their ends (UAX #29's STerm, ATerm).

The known segmenters take one language at a time, or are too slow for a corpus; what they know more
of is abbreviations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import regex

# Written without spaces between words: Chinese, Japanese; Thai, Lao, Burmese, Khmer.
SOUTH_EAST_ASIAN = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
UNSPACED = rf"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff{SOUTH_EAST_ASIAN}"

_CLOSING = r"[\p{SB=CL}*_`]*"
_END = regex.compile(
    rf"[\p{{SB=AT}}!?]+{_CLOSING}(?=\s|\Z)"  # followed by a space, or it is 3.5, a.b, ?x=
    rf"|(?V1:[\p{{SB=ST}}--[!?]][\p{{SB=ST}}\p{{SB=AT}}]*){_CLOSING}"
    rf"|(?<=[{SOUTH_EAST_ASIAN}]{{12}})\s+(?=[{SOUTH_EAST_ASIAN}])"  # Thai ends them by spaces
)
_ABBREVIATED = regex.compile(  # before a full stop that ends no sentence
    r"\b(?:\p{L}|\p{L}+\.\p{L}|Drs?|M[rs]|Mrs|Prof|St|Sr|Jr|vs|cf|bzw|[Vv]gl)$"
)
_COUNTED = re.compile(  # before a full stop and a number
    r"\b(?:nos?|nr|figs?|eq|sec|art|abb|tab|vol|ch|pp?)$", re.IGNORECASE
)
_NUMBERED = re.compile(r"\s*(?:[-*+>#]\s*)*\d{1,4}$")  # the number of a list's item
_FENCE = re.compile(r"\s*(?:[-*+>]\s+)*(`{3,}|~{3,})(.*)")
_ALONE = re.compile(
    r"\s*(?:#{1,6}(?:\s|$)|\||[=\-_*~ ]{3,}$|</?\w[^>]*>$|!?\[[^\]]*\]\([^)]*\)$)|.* \| "
)
_BEGINS = re.compile(
    r"\s*(?:[-*+•‣◦·–—]\s|\(?(?:\d{1,4}|[a-zA-Z]|[ivxIVX]{2,4})[.)]\s|\[\w{1,3}\])"
)
_UNSPACED_AT = re.compile(f"[{UNSPACED}]").match
_WRAPPED, _WRAPPED_UNSPACED = 40, 18  # characters: lines of shorter paragraphs are lines
_RAGGED = 0.75  # of the longest line: below, a line has ended by itself


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return where the sentences of a text start and end.

    Headings, list items, rows of tables and lines of code stand for themselves. Other lines that
    were broken at the margin are joined: their break ends no sentence.
    """
    spans = []
    for start, end in _blocks(text):
        begin = start
        for found in _END.finditer(text, start, end):
            if found[0][0] in ".．" and _goes_on(text, begin, found, end):
                continue
            spans.append((begin, found.end()))
            begin = found.end()
        spans.append((begin, end))
    return [span for span in spans if not text[slice(*span)].isspace() and span[0] < span[1]]


def _goes_on(text: str, begin: int, stop: regex.Match[str], end: int) -> bool:
    """Say whether a full stop ends no sentence: an abbreviation's, or small letters follow."""
    if len(stop[0]) > 1:  # closing marks, or an ellipsis
        return False
    after = text[stop.end() : min(end, stop.end() + 8)].lstrip()
    word = text[max(begin, stop.start() - 12) : stop.start()]
    return (
        after[:1].islower()
        or _ABBREVIATED.search(word) is not None
        or (after[:1].isdigit() and _COUNTED.search(word) is not None)
        or _NUMBERED.fullmatch(text[begin : stop.start()][:40]) is not None
    )


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Yield the runs of lines that one sentence could stand in."""
    paragraph: list[tuple[int, str]] = []  # lines with their starts
    fence = ""
    start = 0
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        closes = mark and fence and mark[1].startswith(fence) and not mark[2].strip()
        opens = mark and not fence and "`" not in mark[2]
        if fence or opens or not line.strip():
            yield from _joined(paragraph)
            paragraph = []
            if line.strip():
                yield start, start + len(line)
        else:
            paragraph.append((start, line))
        if mark and (opens or closes):
            fence = mark[1] if opens else ""
        start += len(line) + 1
    yield from _joined(paragraph)


def _joined(paragraph: list[tuple[int, str]]) -> Iterator[tuple[int, int]]:
    width = max((len(line) for _, line in paragraph), default=0)
    begin, before = -1, ""
    for start, line in paragraph:
        if begin >= 0 and not _broken(before, line, width):
            yield begin, start - 1
            begin = -1
        begin = start if begin < 0 else begin
        before = line
    if paragraph:
        yield begin, paragraph[-1][0] + len(before)


def _broken(before: str, line: str, width: int) -> bool:
    """Say whether a line goes on in the next, which begins where the margin was reached."""
    if _ALONE.match(before) or _ALONE.match(line) or _BEGINS.match(line):
        return False
    first = line.split(None, 1)[0]
    if first[0].islower():
        return True
    unspaced = _UNSPACED_AT(first)
    if width < (_WRAPPED_UNSPACED if unspaced else _WRAPPED):
        return False
    return len(before) + (1 if unspaced else 1 + len(first)) >= _RAGGED * width
