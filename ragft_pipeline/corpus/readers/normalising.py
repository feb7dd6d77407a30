"""Settling white space and the variants in which one text is encoded."""

from __future__ import annotations

import re
import unicodedata

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069"
    "\ufeff\ufffe\ud800-\udfff]"
)
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028]")
_BLANKS = re.compile("[\u00a0\u2000-\u200a\u202f\u205f]")
_HYPHENS = re.compile("[\u2010\u2011]")
_COMPATIBLE = re.compile("[\ufb00-\ufb06\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f]+")
_DATA_URI = re.compile(  # what is embedded in a page, an image mostly: no words of it
    r"\bdata:[\w.+-]{1,40}/[\w.+-]{1,80}(?:;[\w=.-]{1,60}){0,4},[\w+/=%.~:;!*?&-]{40,}", re.ASCII
)


def normalise(text: str) -> str:
    """Return text whose white space and encoding variants are settled.

    NFC; ligatures, full-width letters and digits and half-width kana as plain ones; no byte-order
    mark, soft hyphen, terminal colour, control character or lone surrogate; form feeds and other
    line ends as LF, no trailing blanks, at most one empty line, no `data:` URIs: an edit of these
    alone leaves the document's digest as it was.
    """
    text = _DATA_URI.sub("", text)
    if not text.isascii():
        text = text.replace("\u2029", "\n\n")
        text = _COMPATIBLE.sub(lambda m: unicodedata.normalize("NFKC", m[0]), text)
        text = _HYPHENS.sub("-", _BLANKS.sub(" ", text))
    text = _LINE_ENDS.sub("\n", text)
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    text = "\n".join(line.rstrip(" \t\u3000") for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip()
