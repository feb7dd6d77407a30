"""Where earlier artifacts hold wanted rows: found by DuckDB, read part by part."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PART = 1024  # rows read at once
OPEN_FILES = 64  # of rows at once; a process may have 256 or 1,024 of all kinds


@dataclass(frozen=True)
class HeldRows:
    """Wanted rows of one file, ascending; the file stays open, so it may be removed meanwhile."""

    file: pq.ParquetFile
    path: Path
    rows: np.ndarray
    own: bool

    def parts(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield the rows, reading only the row groups that hold some."""
        ends = np.cumsum([0, *(self.file.metadata.row_group(g).num_rows for g in self._groups)])
        for group in np.unique(np.searchsorted(ends, self.rows, side="right") - 1):
            start = ends[group]
            for batch in self.file.iter_batches(PART, [int(group)], columns=schema.names):
                low, high = np.searchsorted(self.rows, [start, start + batch.num_rows])
                if high > low:
                    part = pa.Table.from_batches([batch])
                    whole = high - low == batch.num_rows
                    yield (part if whole else part.take(self.rows[low:high] - start)).cast(schema)
                start += batch.num_rows

    @property
    def _groups(self) -> range:
        return range(self.file.metadata.num_row_groups)


@dataclass(frozen=True)
class Found:
    """The keys that earlier files hold, and where."""

    keys: pa.Array
    files: list[HeldRows]

    @property
    def whole(self) -> Path | None:
        """The one file that holds these rows and no others, if there is such a one."""
        if len(self.files) != 1:
            return None
        only = self.files[0]
        return only.path if only.file.metadata.num_rows == len(only.rows) else None

    def with_more(self, other: Found) -> Found:
        """Return these and what other files hold of other keys."""
        return Found(pa.concat_arrays([self.keys, other.keys]), [*self.files, *other.files])

    def parts(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield the rows of all files, oldest file first."""
        for file in self.files:
            yield from file.parts(schema)


def find_rows(files: list[str], keys: list[str], own: Path, schema: pa.Schema) -> Found:
    """Say where one row of each key lies that is in the files.

    Files are searched for keys newest first, so most keys are found in the last artifact, and the
    cost hardly grows with the number of artifacts. Of the newest files rows are read in place;
    what only older ones hold is copied, for a process may not have all of them open.

    Args:
        own: the file that is being made; its rows come before all others.
    """
    newest = sorted(files, key=lambda file: (Path(file) == own, Path(file).stat().st_mtime_ns))
    newest.reverse()
    found = _search(newest[:OPEN_FILES], keys, own)
    missing = set(keys).difference(found.keys.to_pylist())
    if missing and len(newest) > OPEN_FILES:
        found = _copied(newest[OPEN_FILES:], missing, own, schema).with_more(found)
    return found


def _copied(files: list[str], missing: set[str], own: Path, schema: pa.Schema) -> Found:
    """Return the rows that files hold of some keys in one file, which has no name any more."""
    copy, keys = own.with_name(f".{uuid.uuid4().hex}"), []
    try:
        with pq.ParquetWriter(copy, schema, compression="zstd") as writer:
            for start in range(0, len(files), OPEN_FILES):
                found = _search(files[start : start + OPEN_FILES], sorted(missing), own)
                for held in found.files:
                    with held.file:
                        for rows in held.parts(schema):
                            writer.write_table(rows)
                keys.append(found.keys)
                missing = missing.difference(found.keys.to_pylist())
        file = pq.ParquetFile(copy)
    finally:
        copy.unlink(missing_ok=True)
    held_here = HeldRows(file, copy, np.arange(file.metadata.num_rows), False)
    return Found(pa.concat_arrays(keys), [held_here])


def _search(newest: list[str], keys: list[str], own: Path) -> Found:
    files, wanted = newest[::-1], pa.table({"row_key": pa.array(keys, pa.string())})
    with duckdb.connect() as connection:
        connection.register("wanted", wanted)
        places: Any = connection.sql(
            "SELECT row_key, max(place) AS file, arg_max(file_row_number, place) AS row FROM ("
            "SELECT row_key, file_row_number, list_position($files, filename) - 1 AS place "
            "FROM read_parquet($files, filename = true, file_row_number = true) "
            "SEMI JOIN wanted USING (row_key)) GROUP BY row_key ORDER BY file, row",
            params={"files": files},
        ).to_arrow_table()
    held = []
    for file in pc.unique(places.column("file")).to_pylist():
        path = Path(files[file])
        rows = places.filter(pc.equal(places.column("file"), file)).column("row").to_numpy()
        held.append(HeldRows(pq.ParquetFile(path), path, rows, path == own))
    return Found(places.column("row_key").combine_chunks(), held)
