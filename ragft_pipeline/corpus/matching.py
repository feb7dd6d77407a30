"""Where an answer stands in a text, however either was typed.

Both are compared without white space, quotation marks, dashes and the marks of Markdown, in NFKC
and without case; a match is a span of the text as it is.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from functools import lru_cache

Span = tuple[int, int]

_GAP = 2000  # characters that a person may leave out with an ellipsis
# What no reader sees: targets of links, rules and the rule below a table's head, marks that open
# a line (headings, quotes).
_UNSEEN = re.compile(
    r"(?<=\])\([^()\s]*(?:[ \t]+\"[^\"\n]*\")?[ \t]*\)"
    r"|^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$"
    r"|^[ \t]{0,3}(?:\#{1,6}|>+)(?=[ \t])",
    re.MULTILINE,
)
_ELLIPSIS = re.compile(r"\s*(?:\[\s*(?:…|\.{3,})\s*\]|\(\s*(?:…|\.{3,})\s*\)|…|\.{3,})\s*")
# Marks of Markdown, and the quotes and dashes that are not of Unicode's classes of these.
_DROPPED = frozenset("*_`~|\\[]()\"'\u00b4\u2032\u2033\u201a\u201e\u2212\u2043")
_RUNS = re.compile(
    r"(?P<seen>[A-Za-z0-9.,;:!?/%&+=<>{}@$^#]+)|(?P<dropped>[\s*_`~|\\\[\]()\"'-]+)|(?P<other>.)",
    re.DOTALL,
)
_IN_NUMBER = re.compile(r"\d[.,]?\x00\d|\d\x00[.,]\d")
_ENDS = ".,;:!?\u3002\uff01\uff1f\uff0c\uff1b\uff1a\u0964\u061f"
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)


class MatchedText:
    """A text, in NFC, in which answers are looked for; making one takes linear time."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._plain, self._places = _plain(text)

    def find(self, answer: str, start: int | None = None) -> list[Span]:
        """Return the spans at which an answer stands, in order; the nearest to `start` if given.

        Whole words are preferred; where there are none, it may stand inside of longer ones, but
        never inside of a longer number. An ellipsis in the answer stands for what was left out.
        """
        spans = self._occurrences(answer) or self._verbatim(answer) or self._with_gaps(answer)
        if start is not None and spans:
            return [min(spans, key=lambda span: abs(span[0] - start))]
        return spans

    def _occurrences(self, answer: str) -> list[Span]:
        wanted = _plain(unicodedata.normalize("NFC", answer))[0].strip(_ENDS + " ")
        if not any(character.isalnum() for character in wanted):
            return []
        found = [
            (span, self._whole(*span))
            for at in _every(self._plain, wanted)
            for span in [(self._places[at], self._places[at + len(wanted) - 1] + 1)]
        ]
        whole = [span for span, edges in found if edges == 2]
        return whole or [span for span, edges in found if edges]

    def _whole(self, start: int, end: int) -> int:
        """Return 2 where a span is of whole words, 0 where it cuts a number, else 1."""
        text, whole = self.text, 2
        for at in (start, end):
            if _IN_NUMBER.search(f"{text[max(0, at - 2) : at]}\x00{text[at : at + 2]}"):
                return 0
            edge = text[max(0, at - 1) : at + 1]
            if len(edge) == 2 and edge.isalnum() and not _UNSPACED.search(edge):
                whole = 1
        return whole

    def _verbatim(self, answer: str) -> list[Span]:
        """Find what normalising takes away: a link's target, a sign."""
        words = answer.split()
        if not any(character.isalnum() for character in answer):
            return []
        pattern = r"\s+".join(re.escape(word) for word in words)
        spans = [match.span() for match in re.finditer(pattern, self.text)]
        return [span for span in spans if self._whole(*span)]

    def _with_gaps(self, answer: str) -> list[Span]:
        pieces = [piece for piece in _ELLIPSIS.split(answer) if piece.strip()]
        if len(pieces) < 2:
            return []
        spans = []
        places = [self._occurrences(piece) for piece in pieces]
        for start, first in places[0]:
            end: int | None = first
            for following in places[1:]:
                limit = end or 0
                after = (last for begin, last in following if limit <= begin <= limit + _GAP)
                end = next(after, None)
                if end is None:
                    break
            if end is not None:
                spans.append((start, end))
        return spans


def _every(text: str, wanted: str) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + len(wanted))


def _plain(text: str) -> tuple[str, array[int]]:
    """Return what is compared, and the place in `text` of each of its characters."""
    kept: list[str] = []
    places = array("q")
    last, broken = "", False  # the last character kept, and whether something was left out since

    def keep(folded: str, at: Iterable[int]) -> None:
        nonlocal last, broken
        if broken and last.isdigit() and folded[0].isdigit():
            kept.append(" ")  # 5-6 and 5 6 are not 56
            places.append(places[-1])
        kept.append(folded)
        places.extend(at)
        last, broken = folded[-1], False

    start = 0
    for gap in (*(match.span() for match in _UNSEEN.finditer(text)), (len(text), len(text))):
        for run in _RUNS.finditer(text, start, gap[0]):
            at, end = run.span()
            if run.lastgroup == "seen":
                keep(run.group().lower(), range(at, end))
            elif run.lastgroup == "other" and (folded := _folded(run.group())):
                keep(folded, [at] * len(folded))
            else:
                broken = True
        start, broken = gap[1], True
    return "".join(kept), places


@lru_cache(maxsize=8192)
def _folded(character: str) -> str:
    """Return a character as it is compared; nothing of white space, quotes, dashes and marks."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", character).casefold())
    return "".join(
        one
        for one in folded
        if not (
            one.isspace()
            or one in _DROPPED
            or unicodedata.category(one) in ("Pd", "Pi", "Pf", "Cf", "Cc")
        )
    )
