"""AsciiDoc to Markdown: titles, lists, listings and tables; no library reads it in Python."""

from __future__ import annotations

import re

from ragft_pipeline.corpus.readers.decoding import decode
from ragft_pipeline.corpus.readers.kinds import Reading
from ragft_pipeline.corpus.readers.tables import table_markdown
from ragft_pipeline.settings import CorpusSettings

_HEADING = re.compile(r"(={1,6})[ \t]+(\S.*)")
_TABLE = re.compile(r"[|,:!]===\s*")
_CELL = re.compile(r"(?:^|\s)[\d.+*<^>aehlmdsv]{0,6}\|")
_LISTING = re.compile(r"(-{4,}|\.{4,})\s*")
_ITEM = re.compile(r"\s*([*.]{1,5})[ \t]+(\S.*)")
_UNSEEN = re.compile(  # attributes, comments, the marks of blocks
    r""":[\w!-]+:|//(?!/)|\[[\w"',.=#%| -]*\]\s*$|={4,}\s*$|\*{4,}\s*$|_{4,}\s*$"""
)


def read_asciidoc(data: bytes, settings: CorpusSettings) -> Reading:
    """Return AsciiDoc with its titles, lists, listings and tables as Markdown's."""
    decoded = decode(data, settings.encodings)
    out: list[str] = []
    rows: list[list[str]] | None = None
    fence = title = ""
    for line in decoded.text.replace("\r\n", "\n").split("\n"):
        if fence:
            closes = line.rstrip() == fence
            out.append("```" if closes else line)
            fence = "" if closes else fence
        elif _TABLE.fullmatch(line):
            out += [_table(rows)] if rows else []
            rows = [] if rows is None else None
        elif rows is not None:
            _add_row(rows, line)
        elif _LISTING.fullmatch(line):
            fence = line.rstrip()
            out.append("```")
        elif heading := _HEADING.match(line):
            title = title or (heading[2].strip() if len(heading[1]) == 1 else "")
            out.append(f"{'#' * len(heading[1])} {heading[2].strip()}")
        elif not _UNSEEN.match(line):
            out.append(_ITEM.sub(_item, re.sub(r"^\.(?=\w)", "", line), count=1))
    out += [_table(rows)] if rows else []
    return Reading("\n".join(out), title, decoded.warnings)


def _add_row(rows: list[list[str]], line: str) -> None:
    cells = _CELL.split(line)[1:]
    if cells:
        rows.append([cell.strip() for cell in cells])
    elif rows and line.strip():
        rows[-1][-1] += f" {line.strip()}"


def _table(rows: list[list[str]]) -> str:
    """Return a table; where its cells stand a line each, the first row says how many are one."""
    width = len(rows[0])
    cells = [cell for row in rows for cell in row]
    return table_markdown([cells[n : n + width] for n in range(0, len(cells), width)])


def _item(item: re.Match[str]) -> str:
    return f"{'   ' * (len(item[1]) - 1)}{'-' if item[1][0] == '*' else '1.'} {item[2]}"
