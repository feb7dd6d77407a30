"""Where earlier files hold wanted rows: found by DuckDB, read part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragft_pipeline.store import database

PART = 1024  # rows read at once
OPEN_FILES = 64  # of rows at once; a process may have 256 or 1,024 of all kinds


@dataclass(frozen=True)
class HeldRows:
    """Wanted rows of one file, ascending; the file is open, so it may be removed meanwhile."""

    file: pq.ParquetFile
    path: Path
    keys: pa.Array
    rows: np.ndarray

    def parts(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield the rows."""
        return read_rows(self.file, self.rows, schema)


def read_rows(file: pq.ParquetFile, rows: np.ndarray, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield rows of a file, given ascending, reading only the row groups that hold some."""
    sizes = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
    ends = np.cumsum([0, *sizes])
    for group in np.unique(np.searchsorted(ends, rows, side="right") - 1):
        start = ends[group]
        for batch in file.iter_batches(PART, [int(group)], columns=schema.names):
            low, high = np.searchsorted(rows, [start, start + batch.num_rows])
            if high > low:
                part = pa.Table.from_batches([batch])
                whole = high - low == batch.num_rows
                yield (part if whole else part.take(rows[low:high] - start)).cast(schema)
            start += batch.num_rows


def find_rows(files: list[str], keys: pa.Array) -> list[HeldRows]:
    """Return which of some files hold rows of some keys, each key in the last file that has it.

    At most `OPEN_FILES` files may be asked for at once.
    """
    wanted = pa.table({"row_key": keys})
    with database.connection() as connection:
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
        own = places.filter(pc.equal(places.column("file"), file))
        keys_here = own.column("row_key").combine_chunks()
        held.append(HeldRows(pq.ParquetFile(path), path, keys_here, own.column("row").to_numpy()))
    return held
