"""A measure of what is no text: unmapped glyphs, mixed scripts in a word, mojibake."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

_SAMPLE = 50_000  # characters looked at: as many from the start as from the middle
_WORD = re.compile(r"[^\W\d_]+")
_GLYPH_NAMES = re.compile(r"\(cid:\d+\)|/(?:g(?:id|lyph)?|uni|C|G|cid_?)[0-9A-F]{2,5}\b")
_BEYOND_LATIN = re.compile(  # letters of Latin, punctuation, currencies, arrows and operators
    "[^\x00-\x7e\u00a0-\u024f\u1e00-\u1eff\u2010-\u205e\u20a0-\u20bf\u2100-\u22ff]"
)
_MOJIBAKE = re.compile(
    "[ÂÃÄÅÐÑâïã][\u0080-\u00bf\u0152-\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
)
_EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "BOPOMOFO", "HANGUL"}
_SYMBOLS = {  # letters that stand in the words of any script, or alone
    "MICRO", "OHM", "KELVIN", "ANGSTROM", "MODIFIER", "MATHEMATICAL", "DOUBLE-STRUCK", "FEMININE",
    "MASCULINE", "SUPERSCRIPT", "SUBSCRIPT", "SCRIPT", "GREEK",
}  # fmt: skip
_COMMON_HAN = ("gb2312", "big5", "shift_jis", "euc_kr")


@dataclass(frozen=True)
class Legibility:
    """How much of a text is no text, as shares between 0 and 1.

    `unmapped`: of the characters, those that no font or encoding gave a meaning: replacement
    characters, private or unassigned code points, names of glyphs. `alien`: of the words, those
    that mix scripts which never share a word, or hold characters that no common text of their
    script has. `stray`: of the letters, those outside the document's three main scripts.
    `mojibake`: of the characters, those in sequences that come of a wrong decoding.
    """

    unmapped: float = 0.0
    alien: float = 0.0
    stray: float = 0.0
    mojibake: float = 0.0

    @property
    def hopeless(self) -> str:
        """Why the text must not be used; empty where it may be."""
        if self.unmapped > 0.2:
            return f"{self.unmapped:.0%} of its characters are glyphs without a meaning"
        if self.alien > 0.3:
            return f"{self.alien:.0%} of its words are no words of any script"
        if self.stray > 0.25:
            return f"{self.stray:.0%} of its letters are of scripts that are not the document's"
        return ""

    @property
    def doubt(self) -> str:
        """What to look at in a text that may be used; empty where there is nothing."""
        if self.unmapped > 0.01:
            return f"{self.unmapped:.1%} of its characters are glyphs without a meaning"
        if self.alien > 0.05:
            return f"{self.alien:.0%} of its words mix scripts: a font or an encoding is wrong"
        if self.stray > 0.05:
            return f"{self.stray:.0%} of its letters are of scripts that are not the document's"
        if self.mojibake > 0.002:
            return "sequences such as Ã¤ for ä: it was saved in a wrong encoding (mojibake)"
        return ""


def legibility(text: str) -> Legibility:
    """Measure a text, by a sample where it is long."""
    if len(text) > _SAMPLE:
        middle = len(text) // 2
        text = text[: _SAMPLE // 2] + text[middle : middle + _SAMPLE // 2]
    if not _BEYOND_LATIN.search(text) and not _GLYPH_NAMES.search(text):
        return Legibility(mojibake=_mojibake(text) / (len(text) or 1))
    characters = Counter(text)
    printed = sum(n for one, n in characters.items() if not one.isspace()) or 1
    unmapped = sum(n for one, n in characters.items() if _is_unmapped(one))
    unmapped += sum(len(name) for name in _GLYPH_NAMES.findall(text))
    words = Counter(word for word in _WORD.findall(text) if not word.isascii())
    plain = len(re.findall(r"[A-Za-z]{2,}", text))
    strange = sum(n for word, n in words.items() if _is_alien(word))
    all_words = max(1, plain + sum(words.values()))
    return Legibility(
        unmapped / printed, strange / all_words, _stray(characters), _mojibake(text) / printed
    )


def is_common_word(word: str) -> bool:
    """Say whether a word keeps to one script, and to characters that texts in it have."""
    return not _is_alien(word)


def _is_unmapped(character: str) -> bool:
    return character == "\ufffd" or (
        unicodedata.category(character) in ("Co", "Cn", "Cs", "Cc") and not character.isspace()
    )


def _is_alien(word: str) -> bool:
    scripts = {_script(one) for one in word} - {""}
    groups = {"CJK" if script in _EAST_ASIAN else script for script in scripts}
    if len(groups) > 1 and not (groups == {"CJK", "LATIN"} and _is_mixed_properly(word)):
        return True
    if "HANGUL" in scripts:
        return sum(_is_rare(one, "euc_kr") for one in word) > len(word) / 4
    if "CJK" in scripts:
        rare = sum(all(_is_rare(one, name) for name in _COMMON_HAN) for one in word)
        return rare > len(word) / 4
    return False


def _is_mixed_properly(word: str) -> bool:
    """Say whether Latin in a Chinese or Japanese word is plain (USB接口), not mojibake (Gr鲞e)."""
    return not any(one > "\x7f" and _script(one) == "LATIN" for one in word) and not re.search(
        r"[a-z][\u3400-\u9fff][a-z]", word
    )


def _stray(characters: Counter[str]) -> float:
    """Return the share of the letters and marks outside the three main scripts."""
    scripts: Counter[str] = Counter()
    for one, count in characters.items():
        script = "IPA" if "\u0250" <= one <= "\u02af" else _script(one)
        if script:
            scripts["CJK" if script in _EAST_ASIAN else script] += count
    total = scripts.total()
    del scripts["IPA"]  # no document's script
    main = sum(count for _, count in scripts.most_common(3))
    return 1 - main / total if total else 0.0


@lru_cache(maxsize=65536)
def _is_rare(character: str, encoding: str) -> bool:
    try:
        return len(character.encode(encoding)) > 2  # euc_kr spells out rare syllables
    except UnicodeEncodeError:
        return True


@lru_cache(maxsize=65536)
def _script(character: str) -> str:
    """Return the script of a letter by the first word of its name; empty for no letter."""
    if not character.isalpha() and unicodedata.category(character) != "Mc":
        return ""
    name = unicodedata.name(character, "").split(" ")[0]
    if name in _SYMBOLS:
        return ""
    return {"HALFWIDTH": "KATAKANA", "FULLWIDTH": "", "IDEOGRAPHIC": "CJK"}.get(name, name)


def _mojibake(text: str) -> int:
    """Return how many characters stand in sequences of a wrong decoding."""
    if not _MOJIBAKE.search(text):
        return 0
    from ftfy.badness import badness

    return badness(text)
