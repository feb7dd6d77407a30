"""Tables of HTML pages: which hold data and which are layout, and the cells of the former."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ragft_pipeline.corpus.readers.html_tree import TEXT, Event
from ragft_pipeline.corpus.readers.tables import table_markdown

HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LONG_CELL = 600  # characters from which a cell without a header is an article's column


@dataclass
class _Table:
    """What decides whether a table holds data or is the page's layout."""

    header: bool = False
    heading: bool = False
    blocks: bool = False
    layout: bool = False
    cells: int = 0  # of the widest row
    row: int = 0
    cell: int = 0  # characters
    longest: int = 0

    def is_layout(self) -> bool:
        if self.header:
            return False
        return (
            self.layout or self.cells < 2 or self.heading
            or (self.blocks and self.longest > _LONG_CELL)
        )  # fmt: skip


def layouts_of(events: Iterable[Event]) -> set[int]:
    """Return the tables that are layout, by their nodes, in one pass over the page."""
    layouts: set[int] = set()
    opened: list[_Table] = []
    for tag, node, entering in events:
        if tag == TEXT:
            if opened:
                opened[-1].cell += len(node.text_content)
        elif tag == "table":
            if entering:
                opened.append(_Table(layout=node.attributes.get("role") == "presentation"))
            elif opened:
                done = opened.pop()
                if done.is_layout():
                    layouts.add(node.mem_id)
                if opened:
                    opened[-1].cell += done.longest
                    opened[-1].heading |= done.heading
        elif opened:
            _see(opened[-1], tag, entering)
    return layouts


def _see(table: _Table, tag: str, entering: bool) -> None:
    """Take note of a tag inside a table."""
    if tag in ("td", "th"):
        if entering:
            table.row, table.cell = table.row + 1, 0
            table.cells = max(table.cells, table.row)
            table.header |= tag == "th"
        else:
            table.longest = max(table.longest, table.cell)
    elif tag == "tr":
        table.row = 0
    elif tag in HEADINGS:
        table.heading = True
    elif tag in ("p", "ul", "ol", "pre", "blockquote"):
        table.blocks = True


@dataclass
class Cells:
    """The rows of one table, with cells that reach over several rows or columns.

    Args:
        budget: how many characters such cells may add.
    """

    budget: int
    rows: list[list[str]] = field(default_factory=list)
    carried: dict[int, tuple[str, int]] = field(default_factory=dict)

    def markdown(self) -> str:
        """Return the table as Markdown."""
        return table_markdown(self.rows)

    def add(self, cell: Any, text: str) -> None:
        """Add a cell at its column: after those that reach down from the rows above."""
        if not self.rows:
            self.rows.append([])
        row = self.rows[-1]
        text = " ".join(text.split()).strip("; ")
        while len(row) in self.carried:
            above, left = self.carried.pop(len(row))
            if left > 1:
                self.carried[len(row)] = above, left - 1
            row.append(above)
            self.budget -= len(above) + 3
        down, across = _span(cell, "rowspan", 1000), _span(cell, "colspan", 50)
        for place in range(across if self.budget > 0 else 1):
            own = "" if place else text
            if down > 1 and self.budget > 0:
                self.carried[len(row)] = own, down - 1
            row.append(own)
            self.budget -= 3 * (place > 0)


def _span(cell: Any, name: str, most: int) -> int:
    value = cell.attributes.get(name) or ""
    return max(1, min(most, int(value))) if value.isdecimal() and len(value) < 6 else 1
