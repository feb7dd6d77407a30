"""NODES tables as what is searched: texts by node id, and where a node stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def nearest_heading(row: Mapping[str, Any]) -> str:
    """Return the heading that a row of a NODES table stands under; empty where that is the title.

    A bundle may hold a table of an earlier version, with that heading alone.
    """
    path = row["heading_path"] if "heading_path" in row else [row["heading"]]
    return path[-1] if path else ""
