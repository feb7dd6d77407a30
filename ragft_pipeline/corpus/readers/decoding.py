"""From bytes to text: the byte-order mark, then what is declared, then what is likely."""

from __future__ import annotations

import codecs
import re

from ragft_pipeline.corpus.readers.kinds import Reading, SkippedDocument
from ragft_pipeline.corpus.readers.legibility import legibility

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LOOKED_AT = 4096  # bytes in which a declaration is sought
_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w:.-]{2,40})"""
    rb"""|<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w:.-]{2,40})""",
    re.IGNORECASE,
)
# what the label means in the files that have it (WHATWG Encoding Standard, section 4.2)
_MEANT = {
    "iso8859-1": "cp1252", "ascii": "cp1252", "latin-1": "cp1252", "iso8859-9": "cp1254",
    "tis-620": "cp874", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932",
    "euc_kr": "cp949", "big5": "big5hkscs", "iso8859-11": "cp874",
}  # fmt: skip
_MAX_NULS = 0.002
_GUESS = 0.1  # confidence below which what is common counts
_OLD = re.compile(r"cp[48]|mac|hp-|ibm|kz|cp1125")  # of DOS, old Macs and mainframes
_NEARLY = 0.8  # as likely as the likeliest: taken where it is named


def decode(data: bytes, encodings: tuple[str, ...], declared: str | None = None) -> Reading:
    """Return the text of a file's bytes, with a warning where its encoding was guessed.

    The byte-order mark decides, then UTF-8, unless another encoding is declared that fits; then
    the likeliest of `encodings` that fits, and last the likeliest of all.

    Args:
        encodings: what the user expects (corpus.encodings).
        declared: what the file's surroundings say; None: look into it (HTML, XML).

    Raises SkippedDocument where nothing fits.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            try:
                return _without_nuls(data[len(mark) :].decode(name), name)
            except UnicodeDecodeError:
                raise SkippedDocument(
                    f"not {name[:6].rstrip('-')} text, which its byte-order mark says it is"
                ) from None
    if b"\x1b$" in data and b"\x1b(" in data:  # Japanese in seven bits
        try:
            return Reading(data.decode("iso2022_jp_ext"))
        except UnicodeDecodeError:
            pass
    wide = _wide(data)
    if wide is not None:
        return Reading(data.decode(wide))
    label = _codec(declared or "")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is not None and (text.isascii() or label is None or not _fits_better(data, label)):
        return _without_nuls(text, "utf-8")
    if label is not None and label != "utf-8":
        try:
            return _without_nuls(data.decode(label), label)
        except UnicodeDecodeError:
            pass
    return _likeliest(data, encodings)


def declared_in(data: bytes) -> str | None:
    """Return the encoding that a page or an XML file declares, or None."""
    found = _DECLARED.search(data[:_LOOKED_AT])
    return (found[1] or found[2]).decode("ascii") if found else None


def known_encoding(name: str) -> bool:
    """Say whether there is a text encoding of that name."""
    try:
        return bool(codecs.lookup(name)._is_text_encoding)  # "base64" is a codec, but of no text
    except LookupError:
        return False


def _codec(label: str) -> str | None:
    """Return the codec that a declared label means, or None where there is none."""
    if not label or not known_encoding(label):
        return None
    name = codecs.lookup(label).name
    return _MEANT.get(name, name) if not name.startswith(("utf-16", "utf-32")) else "utf-8"


def _fits_better(data: bytes, label: str) -> bool:
    """Say whether valid UTF-8 is better read in the declared encoding of several bytes.

    A few Chinese characters in GBK may be valid UTF-8; Latin letters of one byte are never.
    """
    if label not in ("gb18030", "big5hkscs", "cp932", "cp949", "euc_jp"):
        return False
    try:
        declared = data.decode(label)
    except UnicodeDecodeError:
        return False
    return legibility(declared).alien <= legibility(data.decode("utf-8")).alien


def _wide(data: bytes) -> str | None:
    """Return UTF-16's byte order where every second byte is zero, without a byte-order mark."""
    head = data[:2000]
    if len(head) < 8 or len(data) % 2:
        return None
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = head[offset::2].count(0), head[1 - offset :: 2].count(0)
        if zeros > 0.6 * len(head) / 2 and not others:
            try:
                data.decode(name)
            except UnicodeDecodeError:
                return None
            return name
    return None


def _without_nuls(text: str, name: str) -> Reading:
    """Return text with a stray NUL as a blank; more of them, or controls, are no text."""
    nuls = text.count("\x00")
    controls = len(re.findall(r"[\x01-\x08\x0e-\x1a\x1c-\x1f]", text[:100_000]))
    if nuls > max(1, _MAX_NULS * len(text)) or controls > max(2, 0.02 * min(len(text), 100_000)):
        raise SkippedDocument("binary data, not text")
    if nuls:
        return Reading(text.replace("\x00", " "))
    return Reading(text)


def _likeliest(data: bytes, encodings: tuple[str, ...]) -> Reading:
    """Return the text in the likeliest encoding: of those that are named, unless another is far
    likelier; that one is doubted."""
    ranked = {name: found for name, found in _ranked(data).items() if _legible(data, name)}
    named = [name for name in encodings if (codec := _codec(name)) and codec != "utf-8"]
    best = max(ranked.values(), default=0.0)
    for name, confidence in ranked.items():
        own = next((one for one in named if _alike(name, one)), None)
        if own is not None and confidence >= _NEARLY * best:
            return _legible(data, own) or Reading("")
    if ranked:
        name, *others = ranked
        other = next((one for one in others if not _alike(one, name)), None)
        how = f" and is none of corpus.encodings ({', '.join(encodings)})" if named else ""
        doubt = f" (or {other}?)" if other else ""
        said = (
            f"its encoding is not declared{how}: read as {name}{doubt}; name it in corpus.encodings"
        )
        return Reading(data.decode(name), warnings=(said,))
    for name in named:
        if reading := _legible(data, name):
            return reading
    raise SkippedDocument(
        f"not {' or '.join(encodings)} text; add its encoding to corpus.encodings"
    )


def _ranked(data: bytes) -> dict[str, float]:
    """Return encodings with how likely they are, the likeliest first."""
    import chardet

    found = chardet.detect_all(data, ignore_threshold=True, prefer_superset=True)
    likely = {one["encoding"].lower(): one["confidence"] for one in found if one["encoding"]}
    if max(likely.values(), default=1.0) < _GUESS:  # too few letters to tell: then no old one
        for name in filter(_OLD.match, likely):
            likely[name] *= 0.3
        likely = dict(sorted(likely.items(), key=lambda item: -item[1]))
    return {name: likely[name] for name in list(likely)[:12] if known_encoding(name)}


def _alike(left: str, right: str) -> bool:
    return _codec(left) == _codec(right)


def _legible(data: bytes, name: str) -> Reading | None:
    """Return the text where the encoding fits all bytes and makes words of them."""
    try:
        reading = _without_nuls(data.decode(name), name)
    except (UnicodeDecodeError, SkippedDocument):
        return None
    found = legibility(reading.text)
    return None if found.alien > 0.1 or found.unmapped > 0.005 else reading
