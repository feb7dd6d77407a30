"""Which nodes of a bundle metadata filters leave, as the stores that hold its passages say it too.

A condition is looked at once for each value that there is, however many nodes have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.corpus.document_metadata import from_json
from ragft_pipeline.corpus.nodes import nearest_heading
from ragft_pipeline.retrieval.metadata_fields import KNOWN, fields_of, typed
from ragft_pipeline.retrieval.metadata_filters import Asked, Filters, read_filters


class FilterableNodes:
    """What may be asked for: path, title and heading, and what the documents say.

    Args:
        nodes: with `path`, and with `metadata` where the bundle keeps it.
    """

    def __init__(self, nodes: pa.Table) -> None:
        self._nodes = nodes
        kept = "metadata" in nodes.column_names
        texts = nodes.column("metadata") if kept else pa.chunked_array([[""] * len(nodes)])
        self._documents, said = _distinct(texts)
        documents = [from_json(text) for text in said]
        self._fields = fields_of(documents)
        self._said = [typed(document, self._fields) for document in documents]

    def matching(self, filters: Filters) -> np.ndarray:
        """Return which rows of the nodes match, bool (rows,).

        Raises FilterError for filters that ask nothing.
        """
        return read_filters(filters, self._fields, self._rows, self._joined)

    def _rows(self, asked: Asked) -> np.ndarray:
        if asked.key in KNOWN:
            places, values = self._headings if asked.key == "heading" else self._column(asked.key)
        else:
            places, values = self._documents, [said.get(asked.key) for said in self._said]
        return np.array([asked.holds(value) for value in values], bool)[places]

    def _joined(self, kind: str, parts: list[np.ndarray]) -> np.ndarray:
        if not parts:
            return np.ones(len(self._nodes), bool)
        found: np.ndarray = (np.all if kind == "and" else np.any)(parts, axis=0)
        return ~found if kind == "not" else found

    def _column(self, name: str) -> tuple[np.ndarray, Sequence[Any]]:
        return _distinct(self._nodes.column(name))

    @cached_property
    def _headings(self) -> tuple[np.ndarray, Sequence[Any]]:
        name = "heading_path" if "heading_path" in self._nodes.column_names else "heading"
        rows = self._nodes.select([name]).to_pylist()
        return _distinct(pa.chunked_array([[nearest_heading(row) for row in rows]], pa.string()))


def _distinct(column: pa.ChunkedArray) -> tuple[np.ndarray, list[Any]]:
    """Return the number of each row's value, int (rows,), and the values."""
    values = column.unique()
    return pc.index_in(column, values).to_numpy(), values.to_pylist()
