"""Vectors that stay in the files of their segments, in an order of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


class MappedVectors:
    """Vectors that are read where they lie: those of files that are mapped take no memory.

    Args:
        parts: float32 (rows, width) each.
        rows: where each vector stands in the parts end to end, int (vectors,).
    """

    def __init__(self, parts: Sequence[np.ndarray], rows: np.ndarray) -> None:
        self._parts = [part for part in parts if len(part)]
        self._rows = rows
        self._ends = np.cumsum([0, *map(len, self._parts)])
        width = self._parts[0].shape[1] if self._parts else 0
        self.shape = (len(rows), width)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Return some vectors, float32 (places, width)."""
        rows = self._rows[places]
        found = np.empty((len(rows), self.shape[1]), np.float32)
        of = np.searchsorted(self._ends, rows, side="right") - 1
        for part in np.unique(of):
            own = of == part
            found[own] = self._parts[part][rows[own] - self._ends[part]]
        return found

    def scores(self, queries: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
        """Return inner products, float32 (queries, vectors).

        Args:
            queries: float32 (queries, width).
            places: of the vectors that are wanted; all of them by default.
        """
        if places is not None:
            return np.asarray(queries @ self[places].T)
        found = np.empty((len(queries), self._ends[-1]), np.float32)
        for part, start in zip(self._parts, self._ends):
            found[:, start : start + len(part)] = queries @ part.T
        return found[:, self._rows]


def mapped_matrix(rows: pa.Table) -> np.ndarray:
    """Return the column `vector` of a mapped table, float32 (rows, width), without copying it."""
    if not rows.num_rows:
        return np.zeros((0, 0), np.float32)
    values = rows.column("vector").chunk(0).flatten().to_numpy(zero_copy_only=True)
    return np.asarray(values.reshape(rows.num_rows, -1))
