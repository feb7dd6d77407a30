"""NODES tables as what is searched: texts by node id."""

from __future__ import annotations

import pyarrow as pa


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
