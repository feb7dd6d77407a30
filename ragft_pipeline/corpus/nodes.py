"""NODES tables as what is searched: texts by node id, plain or below the headings above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_AT_ONCE = 8192  # rows as Python objects
_ABOVE = ("text", "title", "heading_path", "heading")  # what `contextual` reads


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
    read = nodes.select([name for name in nodes.column_names if name in _ABOVE])
    texts = [contextual(row) for batch in read.to_batches(_AT_ONCE) for row in batch.to_pylist()]
    place = nodes.schema.get_field_index("text")
    return nodes.set_column(place, nodes.schema.field(place), pa.array(texts, pa.string()))


def anything_above(nodes: pa.RecordBatchReader) -> bool:
    """Say whether any text is another with its context; reads no further than it must."""
    return any(contextual(row) != row["text"] for batch in nodes for row in batch.to_pylist())


def contextual(row: Mapping[str, Any]) -> str:
    """Return the text of a NODES row below its title and headings, outermost first."""
    title, text = row["title"].strip(), str(row["text"])
    if not title or text.lstrip("# ").startswith(title):
        return text
    above = [title, *(heading for heading in headings_of(row) if heading != title)]
    return f"{' > '.join(above)}\n{text}"


def headings_of(row: Mapping[str, Any]) -> list[str]:
    """Return the headings above a NODES row; the nearest where an older table keeps no path."""
    found = row["heading_path"] if "heading_path" in row else [row["heading"]]
    return [heading.strip() for heading in found if heading.strip()]
