"""Words of a text, the language it is written in, and their stems.

Every function is pure in the text: what a corpus is made of changes no term of a row.
"""

from __future__ import annotations

import re
import runpy
import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.metadata import distribution
from itertools import islice

# bm25s' lists without bm25s, which starts JAX where that is installed: it would take three quarters
# of a card's memory for itself.
_LISTS = runpy.run_path(str(distribution("bm25s").locate_file("bm25s/stopwords.py")))
AUTO, OFF = "auto", "off"
TERMS_VERSION = 2  # raise it when some text would get other terms
# Scripts written without spaces: Thai and Lao, Burmese, Khmer, kana, Chinese characters.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_FIRST_UNSPACED = re.compile(f"[{_UNSPACED}]").match
_STOP = frozenset(_LISTS["STOPWORDS_EN"])
_LOOKED_AT = 400  # words that tell a text's language
_ENOUGH = 2  # stop words, of which the language has more than any other
_BY_SCRIPT = (  # one language a script; another one that uses it can be fixed in the settings
    (re.compile("[\u0370-\u03ff]"), "greek"),
    (re.compile("[\u0530-\u058f]"), "armenian"),
    (re.compile("[\u0600-\u06ff]"), "arabic"),
    (re.compile("[\u0900-\u097f]"), "hindi"),
    (re.compile("[\u0b80-\u0bff]"), "tamil"),
)
_BY_STOP_WORDS = {
    "danish": _LISTS["STOPWORDS_DANISH"],
    "dutch": _LISTS["STOPWORDS_DUTCH"],
    "english": _LISTS["STOPWORDS_EN_PLUS"],
    "french": _LISTS["STOPWORDS_FRENCH"],
    "german": _LISTS["STOPWORDS_GERMAN"],
    "italian": _LISTS["STOPWORDS_ITALIAN"],
    "norwegian": _LISTS["STOPWORDS_NORWEGIAN"],
    "portuguese": _LISTS["STOPWORDS_PORTUGUESE"],
    "russian": _LISTS["STOPWORDS_RUSSIAN"],
    "spanish": _LISTS["STOPWORDS_SPANISH"],
    "swedish": _LISTS["STOPWORDS_SWEDISH"],
    "turkish": _LISTS["STOPWORDS_TURKISH"],
}
_stemmers = threading.local()  # a stemmer serves one thread


def words_of(text: str) -> list[str]:
    """Return lower-case words without English stop words, and bigrams of unspaced scripts."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    words: list[str] = []
    for token in _tokens().findall(text.lower()):
        if token[0] >= "\u0e00" and _FIRST_UNSPACED(token):
            words += [token[i : i + 2] for i in range(len(token) - 1)] or [token]
        elif token not in _STOP:
            words.append(token)
    return words


def lexical_terms(text: str | Sequence[str], language: str = "") -> list[str]:
    """Return the terms of a text, or of its words: stemmed by a language, where it has one."""
    words = words_of(text) if isinstance(text, str) else list(text)
    if not language:
        return words
    if max(words, default="") < "\u0e00":
        stems: list[str] = _stemmer(language).stemWords(words)
        return stems
    # no language has endings of letters of unspaced scripts
    at = [i for i, word in enumerate(words) if not (word >= "\u0e00" and _FIRST_UNSPACED(word))]
    for place, stem in zip(at, _stemmer(language).stemWords([words[place] for place in at])):
        words[place] = stem
    return words


def language_of(text: str, setting: str = AUTO) -> str:
    """Return the Snowball language of a text; empty where none is told, or none is wanted.

    Args:
        setting: `auto` looks at script and stop words; `off` never stems; else every text's.
    """
    if setting != AUTO:
        return "" if setting == OFF else setting
    found: Counter[str] = Counter()
    start = text[: _LOOKED_AT * 8].lower()
    for match in islice(re.finditer(r"[^\W\d_]+", start), _LOOKED_AT):
        found.update(_languages_of().get(match.group(), ()))
    most = found.most_common(2)
    if most and most[0][1] >= _ENOUGH and (len(most) == 1 or most[0][1] > most[1][1]):
        return most[0][0]
    if start.isascii():
        return ""
    written = [(len(pattern.findall(start)), name) for pattern, name in _BY_SCRIPT]
    characters, name = max(written)
    return name if characters > len(start) // 4 else ""


def stemmers() -> list[str]:
    """Return the languages that can be stemmed."""
    from Stemmer import algorithms

    return list(algorithms())


@cache
def _languages_of() -> dict[str, list[str]]:
    """Return the languages in which a word is a stop word."""
    found: dict[str, list[str]] = {}
    for language, words in _BY_STOP_WORDS.items():
        for word in words:
            found.setdefault(word, []).append(language)
    return found


def _stemmer(language: str):  # type: ignore[no-untyped-def]
    known = vars(_stemmers)
    if language not in known:
        from Stemmer import Stemmer

        known[language] = Stemmer(language)
    return known[language]


@cache
def _tokens() -> re.Pattern[str]:
    """Return what finds runs of an unspaced script, and words with their combining marks."""
    marks = [c for c in map(chr, range(0x10000)) if unicodedata.category(c) in ("Mn", "Mc")]
    spans: list[list[int]] = []
    for mark in map(ord, [*marks, "\u200c", "\u200d"]):
        if spans and mark == spans[-1][1] + 1:
            spans[-1][1] = mark
        else:
            spans.append([mark, mark])
    joined = "".join(f"{chr(first)}-{chr(last)}" for first, last in spans)
    word = rf"[^\W{_UNSPACED}]"
    return re.compile(rf"[{_UNSPACED}]+|{word}(?:{word}+|[{joined}]+)+")
