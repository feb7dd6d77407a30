"""NODES tables as what is searched: texts by node id, plain or below the headings above them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

READ = ("node_id", "title", "heading_path", "text")
"""The columns of NODES that say what models and BM25 read."""
_BETWEEN = "\0"  # headings of a path


def node_texts(*tables: pa.Table) -> dict[str, str]:
    """Return node id to text over NODES tables, in the order of the ids."""
    found = {
        node_id: text
        for table in tables
        for node_id, text in zip(
            table.column("node_id").to_pylist(), table.column("text").to_pylist()
        )
    }
    return dict(sorted(found.items()))


def named(nodes: pa.Table, ids: Sequence[str] | None) -> pa.Table:
    """Return the rows of some nodes, or of all."""
    if ids is None:
        return nodes
    return nodes.filter(pc.is_in(nodes.column("node_id"), pa.array(ids, pa.string())))


def nearest_heading(row: Mapping[str, Any]) -> str:
    """Return the heading that a row of a NODES table stands under; empty where that is the title.

    A bundle may hold a table of an earlier version, with that heading alone.
    """
    path = row["heading_path"] if "heading_path" in row else [row["heading"]]
    return path[-1] if path else ""


def with_context(nodes: pa.Table) -> pa.Table:
    """Return NODES whose texts begin with their document's title and the headings above them.

    A text that begins with its title stays as it is. This is what models and BM25 read where
    context helps; what people are shown is the passage alone.
    """
    above = _above(nodes)
    texts = [f"{own}{text}" for own, text in zip(above, nodes.column("text").to_pylist())]
    place = nodes.schema.get_field_index("text")
    return nodes.set_column(place, nodes.schema.field(place), pa.array(texts, pa.string()))


def anything_above(nodes: pa.RecordBatchReader) -> bool:
    """Say whether any text is another with its context; reads no further than it must."""
    return any(own for batch in nodes for own in _above(batch))


def _above(nodes: pa.Table | pa.RecordBatch) -> Iterator[str]:
    """Yield what stands above each text, its title and headings, outermost first, in a line."""
    if "heading_path" in nodes.schema.names:
        whole = nodes.column("heading_path").cast(pa.list_(pa.string()))
        paths = pc.binary_join(whole, _BETWEEN)
    else:  # a bundle's table of before there were paths
        paths = nodes.column("heading")
    titles = [title.strip() for title in nodes.column("title").to_pylist()]
    known: dict[tuple[str, str], str] = {}  # few texts have one to themselves
    for title, path, text in zip(titles, paths.to_pylist(), nodes.column("text").to_pylist()):
        if not title or text.lstrip("# ").startswith(title):
            yield ""
            continue
        if (own := known.get((title, path))) is None:
            headings = [heading.strip() for heading in path.split(_BETWEEN)]
            others = [heading for heading in headings if heading and heading != title]
            own = known[title, path] = f"{' > '.join([title, *others])}\n"
        yield own


def headings_of(row: Mapping[str, Any]) -> list[str]:
    """Return the headings above a NODES row; the nearest where an older table keeps no path."""
    found = row["heading_path"] if "heading_path" in row else [row["heading"]]
    return [heading.strip() for heading in found if heading.strip()]
