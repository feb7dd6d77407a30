"""Formats that are text themselves: HTML, MDX, records, tables, RTF."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ragft_pipeline.corpus.readers.decoding import declared_in, decode
from ragft_pipeline.corpus.readers.html_tree import xhtml_as_html
from ragft_pipeline.corpus.readers.kinds import Reading, SkippedDocument, needs
from ragft_pipeline.corpus.readers.markup import html_to_markdown
from ragft_pipeline.corpus.readers.mdx import mdx_to_markdown
from ragft_pipeline.corpus.readers.tables import table_markdown
from ragft_pipeline.settings import CorpusSettings

_SEPARATOR = re.compile(r"\A\ufeff?sep=.\r?\n")
_RTF_ROW = re.compile(r"^[^|\n]*\|.*\|$", re.MULTILINE)


def read_plain(data: bytes, settings: CorpusSettings) -> Reading:
    """Return text as it is."""
    return decode(data, settings.encodings, declared_in(data) if data[:5] == b"<?xml" else None)


def read_mdx(data: bytes, settings: CorpusSettings) -> Reading:
    """Return MDX as the Markdown that it shows."""
    decoded = decode(data, settings.encodings)
    return Reading(mdx_to_markdown(decoded.text), warnings=decoded.warnings)


def read_json(data: bytes, settings: CorpusSettings) -> Reading:
    """Return records, of a JSON array or a JSON line each, as lines `key: value`."""
    decoded = decode(data, settings.encodings)
    try:
        found = json.loads(decoded.text)
    except (ValueError, RecursionError):
        found = None
    if found is None:
        try:
            found = [json.loads(line) for line in decoded.text.split("\n") if line.strip()]
        except (ValueError, RecursionError):
            return decoded
    if isinstance(found, dict):  # records under the one key that has any
        lists = [value for value in found.values() if isinstance(value, list)]
        found = lists[0] if len(lists) == len(found) == 1 else [found]
    records = found if isinstance(found, list) else [found]
    return Reading("\n\n".join(map(_record, records)), warnings=decoded.warnings)


def _record(record: Any) -> str:
    if not isinstance(record, dict):
        return _json_value(record)
    lines = [(key, _json_value(value)) for key, value in record.items()]
    return "\n".join(f"{key}: {value}" for key, value in lines if value)


def _json_value(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_xhtml(data: bytes, settings: CorpusSettings) -> Reading:
    """Return an XHTML page's main text, decoded as it declares."""
    return read_html(data, settings, xhtml=True)


def read_html(data: bytes, settings: CorpusSettings, xhtml: bool = False) -> Reading:
    """Return a page's main text, decoded as it declares."""
    decoded = decode(data, settings.encodings, declared_in(data))
    markup = decoded.text
    if xhtml or markup.lstrip()[:5] == "<?xml":
        markup = xhtml_as_html(markup)
    page = html_to_markdown(markup)
    return Reading(page.text, page.title, decoded.warnings)


def read_csv(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a table of comma, semicolon or tab separated values."""
    decoded = decode(data, settings.encodings)
    text = _SEPARATOR.sub("", decoded.text, count=1)  # Excel's own hint
    try:
        evenness = {mark: _evenness(text, mark) for mark in ",;\t|"}
        mark = max(evenness, key=lambda one: evenness[one]) if any(evenness.values()) else "\x1f"
        rows = list(_rows(text, mark))
    except csv.Error as error:
        raise SkippedDocument(f"cannot be read as a table ({error})") from None
    return Reading(table_markdown(rows), warnings=decoded.warnings)


def _rows(text: str, mark: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)


def _evenness(text: str, mark: str) -> float:
    """Return the share of the first rows that a delimiter cuts into equally many cells."""
    widths = Counter(len(row) for row in islice(_rows(text[:50_000], mark), 100) if row)
    width, count = max(widths.items(), key=lambda item: item[1], default=(1, 0))
    return 0.0 if width < 2 else (count + width / 1000) / widths.total()


def read_rtf(data: bytes, settings: CorpusSettings) -> Reading:
    """Return the text of an RTF file."""
    if not data.lstrip().startswith(b"{\\rtf"):
        raise SkippedDocument("not an RTF file")
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError:
        raise needs("striprtf") from None
    title = re.search(rb"\\title[ ]?([^{}\\]{1,200})", data)
    text = rtf_to_text(data.decode("cp1252", "replace"), errors="replace")
    text = _RTF_ROW.sub(lambda row: " | ".join(map(str.strip, row[0].split("|")[:-1])), text)
    return Reading(text, title[1].decode("cp1252", "replace").strip() if title else "")
