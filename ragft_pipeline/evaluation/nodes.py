"""The nodes of a version: where each stands is at hand, their texts are read when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.retrieval.evidence import PLACE, Neighbours, places_of_nodes
from ragft_pipeline.store.tables import read_table, rows_of, segments_of

_READ = ("node_id", "doc_key", "title", "heading_path", "text", "start_char", "end_char")


class Nodes:
    """A written NODES table.

    Attributes:
        rows: where all rows stand, without their texts.
        ids: of the nodes, ascending.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows = read_table(path, ("node_id", *PLACE, "end_char"))
        self._last = self.rows.take(places_of_nodes(self.rows))
        self.ids: pa.StringArray = self._last.column("node_id").combine_chunks()

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def around(self) -> Neighbours:
        """What stands beside each node, by their places in `ids`."""
        return Neighbours(self._last.select(PLACE))

    def places(self, rows: pa.Table) -> dict[str, int]:
        """Return the places of the nodes of a NODES table."""
        ids = pc.unique(rows.column("node_id"))
        return dict(zip(ids.to_pylist(), pc.index_in(ids, self.ids).to_pylist()))

    def named(self, places: Sequence[int]) -> list[str]:
        """Return the ids at some places."""
        found: list[str] = self.ids.take(pa.array(places, pa.int64())).to_pylist()
        return found

    def read(self) -> pa.Table:
        """Return all rows and what is read of them."""
        return read_table(self._path, _READ)

    def some(self, places: Sequence[int]) -> pa.Table:
        """Return the rows in which the nodes at some places stand last, in the order of the ids."""
        at = pa.array(sorted(places), pa.int64())
        ids, documents = self.ids.take(at), self._last.column("doc_key").take(at)
        if segments_of(self._path):
            rows = rows_of(self._path, "doc_key", pc.unique(documents.combine_chunks()))
        else:
            rows = read_table(self._path)
        rows = rows.filter(pc.is_in(rows.column("node_id"), ids))
        return rows.take(places_of_nodes(rows))
