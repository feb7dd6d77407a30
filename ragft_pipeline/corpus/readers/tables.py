"""Tables as Markdown: `a | b` a row, under a line `-|-` that says it is a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a Markdown table; the first row is its head.

    Empty cells keep their place, empty rows and columns are left out; rows of one cell at the top
    are captions. A table of one column is lines of text.
    """
    cells = [{p: text for p, cell in enumerate(row) if (text := _cell(cell))} for row in rows]
    cells = [row for row in cells if row]
    used = sorted(set().union(*cells))
    if len(used) < 2:
        return "\n".join(text for row in cells for text in row.values())
    above = next((n for n, row in enumerate(cells) if len(row) > 1), 0)
    captions, cells = [text for row in cells[:above] for text in row.values()], cells[above:]
    place = {column: number for number, column in enumerate(used)}
    lines = [row_line({place[p]: text for p, text in row.items()}) for row in cells]
    table = "\n".join([lines[0], "|".join("-" * len(used)), *lines[1:]])
    return "\n\n".join([*captions, table])


def _cell(text: str) -> str:
    return " ".join(text.split())


def row_line(row: Mapping[int, str]) -> str:
    """Return a row, cells by their column; empty ones after the last are left out."""
    line = "" if 0 in row else "|"
    for place in range(max(2, max(row) + 1)):
        text = row.get(place, "").replace("|", "\\|")
        line += f"{' |' if place else ''}{' ' if text and line else ''}{text}"
    return line
