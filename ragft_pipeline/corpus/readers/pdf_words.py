"""Words of a PDF that a line's or a page's end cuts, put together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from ragft_pipeline.corpus.readers.legibility import is_common_word
from ragft_pipeline.corpus.readers.pdf_lines import Line

_HYPHENS = "-\u00ad\u2010\x02\ufffe"
_CUT_WORD = re.compile(rf"([^\W\d_]+)[{_HYPHENS}]$")
_BEGUN_WORD = re.compile(r"([^\W\d_]+)(\S*)")


def vocabulary(pages: Sequence[Sequence[Line]]) -> Counter[str]:
    """Return the words that stand uncut in the document, hyphens included."""
    words: Counter[str] = Counter()
    for lines in pages:
        for line in lines:
            words.update(
                re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*(?![-\w\x02\ufffe])", line.text.lower())
            )
    return words


def joined(lines: Iterable[str], known: Counter[str]) -> list[str]:
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


def pages_joined(parts: Sequence[str], known: Counter[str]) -> str:
    """Return pages as one text; a sentence that runs over a page's end stays whole."""
    text = ""
    for part in parts:
        if text and part[:1].islower() and text[-1] not in ".!?:;":
            before, _, last = text.rpartition("\n")
            first, _, after = part.partition("\n")
            lines = joined([last, first], known)
            text = "\n".join(filter(None, [before, *lines, after]))
        else:
            text += ("\n\n" if text else "") + part
    return text
