"""AsciiDoc to Markdown: titles, lists, listings and tables; no library reads it in Python."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field

from ragft_pipeline.corpus.readers.decoding import decode
from ragft_pipeline.corpus.readers.kinds import Reading
from ragft_pipeline.corpus.readers.tables import table_markdown
from ragft_pipeline.settings import CorpusSettings

_HEADING = re.compile(r"(={1,6}|#{1,6})[ \t]+(\S.*)")
_TABLE = re.compile(r"([|,:!])===\s*")
_CELL = re.compile(r"(?:^|\s)[\d.+*<^>aehlmdsv]{0,6}\|")
_LISTING = re.compile(r"(-{4,}|\.{4,}|```+)(\S*)\s*")
_COMMENT = re.compile(r"/{4,}\s*")
_ITEM = re.compile(r"^\s*([*.]{1,5})[ \t]+(\S.*)")
_ATTRIBUTE = re.compile(r":([\w-]+):[ \t]*(\S.*)?")
_KINDS = re.compile(r"\[(NOTE|TIP|IMPORTANT|CAUTION|WARNING)\b[^\]]*\]\s*")
_SOURCE = re.compile(r"\[source,\s*([\w+-]+)")
_UNSEEN = re.compile(  # comments, conditions, the marks of blocks
    r"//(?!/)|\[[\w\"',.=#%| -]*\]\s*$|\[\[[^\]]*\]\]\s*$|={4,}\s*$|\*{4,}\s*$|_{4,}\s*$|--\s*$|"
    r"\+\s*$|<<<\s*$|'''\s*$|(?:ifn?def|ifeval|endif|include|toc)::\S*\[.*\]\s*$|:!?[\w-]+!?:"
)
_INLINE = re.compile(  # bounded, so that it is linear in the line
    r"<<[^<>,\n]{1,200},\s?([^<>\n]{1,300})>>"  # to another place
    r"|\b(?:link:|mailto:|xref:|https?://)[^\s\[\]<>]{1,500}\[([^\[\]]{1,500})\]"
    r"|\bimage::?[^\s\[\]]{1,500}\[([^\[\],]{0,300})[^\[\]]{0,300}\]"
    r"|\b(?:kbd|btn|menu|pass):\w{0,40}\[([^\]]{0,300})\]"
    r"|\bfootnote:\w{0,40}\[([^\[\]]{0,2000})\]|<<([^<>,\n]{1,200})>>|\[\[[^\[\]]{0,200}\]\]"
)
_REFERENCE = re.compile(r"(?<!\\)\{([\w-]+)\}")


def read_asciidoc(data: bytes, settings: CorpusSettings) -> Reading:
    """Return AsciiDoc with its titles, lists, listings and tables as Markdown's."""
    decoded = decode(data, settings.encodings)
    page = _Page(10_000 + len(decoded.text))
    for line in decoded.text.replace("\r\n", "\n").split("\n"):
        page.add(line)
    page.end_table()
    return Reading("\n".join(page.out), page.title, decoded.warnings)


@dataclass
class _Page:
    """A page on its way to Markdown, line by line."""

    budget: int  # characters that attributes' values may add
    title: str = ""
    out: list[str] = field(default_factory=list)
    rows: list[list[str]] | None = None  # of the open table
    mark: str = ""  # between its cells
    fence: str = ""  # that ends the open listing or comment
    language: str = ""
    known: dict[str, str] = field(default_factory=dict)  # attributes

    def add(self, line: str) -> None:
        """Take the next line."""
        if self.fence:
            if line.rstrip() == self.fence:
                self.out += [] if self.fence[0] == "/" else ["```"]
                self.fence = ""
            elif self.fence[0] != "/":
                self.out.append(line)
        elif table := _TABLE.fullmatch(line):
            if self.rows is None:
                self.rows, self.mark = [], table[1]
            else:
                self.end_table()
        elif self.rows is not None:
            self._row(self.rows, line)
        elif _COMMENT.fullmatch(line):
            self.fence = line.rstrip()
        elif listing := _LISTING.fullmatch(line):
            self.fence = listing[1]
            self.out.append(f"```{listing[2] or self.language}")
            self.language = ""
        else:
            self._text(line)

    def _text(self, line: str) -> None:
        if heading := _HEADING.match(line):
            words = self._inline(heading[2]).strip()
            self.title = self.title or (words if len(heading[1]) == 1 else "")
            self.out.append(f"{'#' * len(heading[1])} {words}")
        elif kind := _KINDS.fullmatch(line):
            self.out.append(f"{kind[1].capitalize()}:")
        elif (attribute := _ATTRIBUTE.fullmatch(line)) and attribute[2]:
            self.known[attribute[1]] = attribute[2].strip()[:1000]
        elif source := _SOURCE.match(line):
            self.language = source[1]
        elif not _UNSEEN.match(line):
            line = self._inline(re.sub(r"^\.(?=\w)", "", line))
            self.out.append(_ITEM.sub(_item, line, count=1))

    def _inline(self, line: str) -> str:
        """Return a line with the words of its links and pictures, and its attributes' values."""
        return _INLINE.sub(_shown, _REFERENCE.sub(self._value, line))

    def _value(self, reference: re.Match[str]) -> str:
        value = self.known.get(reference[1], reference[0])
        self.budget -= len(value)
        return value if self.budget > 0 else reference[0]

    def _row(self, rows: list[list[str]], line: str) -> None:
        line = self._inline(line)
        if self.mark != "|":
            rows += [row for row in csv.reader([line], delimiter=self.mark) if row]
            return
        cells = _CELL.split(line)[1:]
        if cells:
            rows.append([cell.strip() for cell in cells])
        elif rows and line.strip():
            rows[-1][-1] += f" {line.strip()}"

    def end_table(self) -> None:
        """Write the open table.

        Where its cells stand a line each, the first row says how many are one.
        """
        if self.rows:
            width = len(self.rows[0])
            cells = [cell for row in self.rows for cell in row]
            self.out.append(
                table_markdown([cells[n : n + width] for n in range(0, len(cells), width)])
            )
        self.rows = None


def _shown(found: re.Match[str]) -> str:
    *shown, footnote, bare = found.groups()
    return f" ({footnote})" if footnote else next((one for one in shown if one), bare or "")


def _item(item: re.Match[str]) -> str:
    return f"{'   ' * (len(item[1]) - 1)}{'-' if item[1][0] == '*' else '1.'} {item[2]}"
