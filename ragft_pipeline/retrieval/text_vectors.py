"""Vectors of texts as rows in the store: encoded once for each model, shared by every asset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.compute import RowFunction
from ragft_pipeline.digests import text_key
from ragft_pipeline.retrieval.encoder import Encoder, Kind
from ragft_pipeline.store import Workspace
from ragft_pipeline.store.scratch import scratch_array


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text to encode: the row key of its vector, the id it goes by, and the text."""

    row_key: str
    text_id: str
    text: str


@dataclass(frozen=True)
class Encode(RowFunction[EncodedText]):
    """VECTORS rows of texts."""

    seconds: ClassVar[float] = 0.01
    encoder: Encoder
    kind: Kind

    def __call__(self, units: Sequence[EncodedText]) -> pa.Table:
        """Encode the texts."""
        vectors = self.encoder.encode([unit.text for unit in units], self.kind)
        ids, keys = [unit.text_id for unit in units], [unit.row_key for unit in units]
        return vectors_table(ids, keys, vectors)


def units_of(texts: Mapping[str, str]) -> list[EncodedText]:
    """Return texts (id to text) as units of the rows of their vectors."""
    return [EncodedText(text_key(text), name, text) for name, text in texts.items()]


def encoded(
    work: Workspace,
    encoder: Encoder,
    units: Sequence[EncodedText],
    kind: Kind,
    encode: RowFunction[EncodedText] | None = None,
    done: Callable[[int, pa.Table], None] = lambda units, rows: None,
) -> Iterator[pa.Table]:
    """Yield the VECTORS rows of texts part by part, encoding only texts no artifact holds.

    Args:
        encode: makes the rows, and more that `done` is told of; by default `Encode`.
        done: see `RowCache.complete`.
    """
    cache = work.rows(f"vectors_{kind}", encoder.identity(kind), schemas.VECTORS.schema, family="*")
    key = attrgetter("row_key")
    yield from cache.batches(units, key, encode or Encode(encoder, kind), 1024, done)


def cached_vectors(
    work: Workspace, encoder: Encoder, texts: dict[str, str], kind: Kind
) -> tuple[list[str], np.ndarray]:
    """Return vectors of `texts` (id to text), encoding only texts no artifact holds.

    The rows are shared by every asset, so a text is encoded once for each model.

    Returns the ids in the order of `texts`, and float32 vectors of shape (texts, dimension), mapped
    from a file where they are many.
    """
    units = units_of(texts)
    return list(texts), gathered(work, units, encoded(work, encoder, units, kind))


def gathered(
    work: Workspace, units: Sequence[EncodedText], parts: Iterable[pa.Table]
) -> np.ndarray:
    """Return the vectors of units out of their VECTORS rows, in the units' order."""
    matrix = np.zeros((0, 0), np.float32)
    for places, vectors in placed(units, parts):
        if not matrix.size:
            matrix = scratch_array(work.store.root, (len(units), vectors.shape[1]))
        matrix[places] = vectors
    return matrix


def placed(
    units: Sequence[EncodedText], parts: Iterable[pa.Table]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places of units, int (n,), and their vectors, float32 (n, dimension), part by part."""
    place: dict[str, int] = {}
    again: dict[str, list[int]] = {}  # further places of a text that several units have
    for row, unit in enumerate(units):
        if place.setdefault(unit.row_key, row) != row:
            again.setdefault(unit.row_key, []).append(row)
    for rows in parts:
        keys, vectors = rows.column("row_key").to_pylist(), vectors_matrix(rows)
        yield np.array([place[key] for key in keys], np.int64), vectors
        more = [(other, at) for at, key in enumerate(keys) for other in again.get(key, ())]
        if more:
            others, at = np.array(more, np.int64).T
            yield others, vectors[at]


def vectors_table(ids: Sequence[str], row_keys: Sequence[str], vectors: np.ndarray) -> pa.Table:
    """Return a VECTORS table."""
    width = vectors.shape[1]
    offsets = pa.array(np.arange(0, (len(ids) + 1) * width, width, dtype=np.int32))
    values = pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1), pa.float32()))
    return pa.table(
        {"row_key": list(row_keys), "text_id": list(ids), "vector": values},
        schema=schemas.VECTORS.schema,
    )


def vectors_matrix(table: pa.Table) -> np.ndarray:
    """Return the vectors of a VECTORS table, float32 of shape (rows, dimension)."""
    if not table.num_rows:
        return np.zeros((0, 0), np.float32)
    column = table.column("vector").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(table.num_rows, -1), dtype=np.float32)
