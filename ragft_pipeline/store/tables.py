"""A table as a folder of segments: versions that differ in a few rows differ in a few segments.

A group is a run of rows with one value in the table's first key column. Where a segment ends is
decided by the group it ends with: the more rows that has the likelier, by the digest of its last
row. So the cut is local, equal tables have equal segments however they came about, and one changed
group changes one segment, seldom two. (Content-defined chunking: Muthitacharoen et al. 2001.)

A segment keeps each row's digest beside it, in the column `row_digest`. A table of before there
were segments is one file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragft_pipeline.digests import digest_of, file_sha256
from ragft_pipeline.store import database
from ragft_pipeline.store.segments import digest_in, share

DIGEST = "row_digest"
_READ_ROWS = 8192
_DICTIONARY = 1 << 26  # bytes: of a list's ids each is written once, however many there are


@dataclass(frozen=True)
class Splice:
    """A table as another one, below `base`, without some groups and with rows of such instead.

    Both are in the order of the groups; `rows` has whole groups only.
    """

    base: Path
    groups: pa.Array
    rows: pa.Table


@dataclass(frozen=True)
class Change:
    """What is otherwise in a table than in an earlier one: the groups, before and now.

    Attributes:
        groups: string array, those that went and those that came among them.
        before, after: all rows of these groups in the earlier and in the later table.
    """

    groups: pa.Array
    before: pa.Table
    after: pa.Table


@dataclass(frozen=True)
class Layout:
    """How a table's rows are written: their schema, their group, what their digests leave out.

    A segment has `rows` of them in the mean.
    """

    schema: pa.Schema
    group: str
    leave_out: tuple[str, ...] = ()
    rows: int = 4096

    def write(self, table: pa.Table | pa.RecordBatchReader | Splice, folder: Path) -> int:
        """Write a table, a reader's batch by batch; return the number of its rows."""
        folder.mkdir()
        segments = _Segments(folder, self.group, self.rows)
        with database.connection() as connection:
            if isinstance(table, Splice):
                self._splice(table, segments, connection)
            else:
                whole = isinstance(table, pa.Table)
                for rows in [table] if whole else (pa.Table.from_batches([one]) for one in table):
                    segments.add(self._digested(rows, connection))
        segments.end(self._stored.empty_table())
        return segments.rows

    @property
    def _stored(self) -> pa.Schema:
        return self.schema.append(pa.field(DIGEST, pa.binary()))

    def _splice(
        self, table: Splice, segments: _Segments, connection: duckdb.DuckDBPyConnection
    ) -> None:
        new = self._digested(table.rows, connection)
        files = segments_of(table.base)
        ends = [_last(file, self.group) for file in files]
        for file, end in zip(files, [*ends[:-1], None]):
            # of new groups, those up to the segment's last one belong to it; the rest to the last
            mine = _up_to(new, self.group, end)
            new = new.slice(mine.num_rows)
            touched = mine.num_rows or _holds(file, self.group, table.groups)
            if not touched and segments.share(file):
                continue
            old = pq.read_table(file)
            kept = old.filter(pc.invert(pc.is_in(old.column(self.group), table.groups)))
            both = pa.concat_tables([kept, mine])
            order = np.argsort(np.array(both.column(self.group).to_pylist()), kind="stable")
            segments.add(both.take(pa.array(order)))

    def _digested(self, table: pa.Table, connection: duckdb.DuckDBPyConnection) -> pa.Table:
        """Return rows of this schema with the SHA-256 of each one's values, 32 bytes."""
        table = table.select(self.schema.names).cast(self.schema)
        names = ", ".join(f'"{name}"' for name in self.schema.names if name not in self.leave_out)
        connection.register("given", table)
        found = connection.sql(
            f"SELECT unhex(sha256(to_json(kept)::VARCHAR)) FROM (SELECT {names} FROM given) kept"
        ).to_arrow_table()
        return table.append_column(DIGEST, found.column(0).combine_chunks().cast(pa.binary()))

    def digest(self, path: Path) -> str:
        """Return the digest of a written table's rows, as `store.digests.table_digest` has it."""
        names = [name for name in self.schema.names if name not in self.leave_out]
        digests = [pq.read_table(file, columns=[DIGEST]) for file in segments_of(path)]
        column = pa.concat_tables(digests).column(DIGEST)
        if not len(column):
            return digest_of("empty", names)
        flat = column.cast(pa.binary(32)).combine_chunks()
        flat = np.frombuffer(flat.buffers()[1], "S32")[flat.offset :][: len(flat)]
        return digest_of(names, hashlib.sha256(np.sort(flat).tobytes().hex().encode()).hexdigest())

    def change(self, before: Path, after: Path) -> Change | None:
        """Return what changed between two tables; None where one is of before segments."""
        old, new = segments_of(before), segments_of(after)
        if not (old and new):
            return None
        common = {digest_in(file.name) for file in old} & {digest_in(file.name) for file in new}
        left, right = (
            self._read([file for file in files if digest_in(file.name) not in common])
            for files in (old, new)
        )
        gone, came = (
            one.filter(pc.invert(pc.is_in(one.column(DIGEST), other.column(DIGEST))))
            for one, other in ((left, right), (right, left))
        )
        groups = pc.unique(pa.concat_tables([gone, came]).column(self.group))
        was, now = (
            one.filter(pc.is_in(one.column(self.group), groups)).select(self.schema.names)
            for one in (left, right)
        )
        return Change(groups, was, now)

    def _read(self, files: Sequence[Path]) -> pa.Table:
        """Read segments with the digests of their rows."""
        return pa.concat_tables([self._stored.empty_table(), *map(pq.read_table, files)])


class _Segments:
    """Cuts a stream of rows, digests among their columns, into the segments of a folder."""

    def __init__(self, folder: Path, group: str, size: int) -> None:
        self._folder, self._group, self._size = folder, group, size
        self._open: pa.Table | None = None
        self._number = 0
        self.rows = 0

    def add(self, rows: pa.Table) -> None:
        """Append rows; what no cut ends yet is held."""
        if self._open is not None:
            rows = pa.concat_tables([self._open, rows])
        start = 0
        for end in _cuts(rows, self._group, self._size):
            self._write(rows.slice(start, end - start))
            start = end
        rest = rows.slice(start)
        self._open = rest.combine_chunks() if rest.num_rows else None

    def share(self, file: Path) -> bool:
        """Take a segment as it is; False in the middle of one, or where it cannot be shared."""
        if self._open is not None:
            self._settle()
        if self._open is not None or not share(file, self._path(digest_in(file.name) or "")):
            return False
        self._number += 1
        self.rows += int(pq.read_metadata(file).num_rows)
        return True

    def _settle(self) -> None:
        """Write what is held where its last group, whole by now, ends a segment."""
        assert self._open is not None
        if _is_end(self._open, self._group, self._size):
            self._write(self._open)
            self._open = None

    def end(self, nothing: pa.Table) -> None:
        """Write what is held; of a table without rows, a segment without any."""
        if self._open is not None:
            self._settle()
        if self._open is not None or not self._number:
            self._write(nothing if self._open is None else self._open)

    def _write(self, rows: pa.Table) -> None:
        temporary = self._folder / ".segment"
        options = encodings(rows.schema)
        pq.write_table(rows.combine_chunks(), temporary, compression="zstd", **options)
        temporary.replace(self._path(file_sha256(temporary)))
        self._number += 1
        self.rows += rows.num_rows

    def _path(self, digest: str) -> Path:
        return self._folder / f"{self._number:06d}-{digest}.parquet"


def encodings(schema: pa.Schema) -> dict[str, Any]:
    """Return how lists of floats are stored: half as many bytes as by Parquet's dictionaries."""
    lists = [field.name for field in schema if pa.types.is_list(field.type)]
    floats = [name for name in lists if pa.types.is_floating(schema.field(name).type.value_type)]
    if not floats:
        return {}
    leaves = {name: f"{name}.list.element" if name in lists else name for name in schema.names}
    return {
        "use_dictionary": [leaves[name] for name in schema.names if name not in floats],
        "use_byte_stream_split": [leaves[name] for name in floats],
        "dictionary_pagesize_limit": _DICTIONARY,
    }


def _cuts(rows: pa.Table, group: str, mean: int) -> list[int]:
    """Return where segments end, but for the last group: more of it may come."""
    if not rows.num_rows:
        return []
    keys = rows.column(group).combine_chunks().dictionary_encode().indices.to_numpy()
    ends = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    sizes = np.diff(ends, prepend=0)
    last = rows.column(DIGEST).combine_chunks().take(pa.array(ends - 1)).to_pylist()
    return [int(end) for end, size, row in zip(ends, sizes, last) if _ends(row, int(size), mean)]


def _is_end(rows: pa.Table, group: str, mean: int) -> bool:
    keys = rows.column(group)
    size = pc.sum(pc.equal(keys, keys[-1])).as_py()
    return _ends(rows.column(DIGEST)[-1].as_py(), int(size), mean)


def _ends(digest: bytes, size: int, mean: int) -> bool:
    return int.from_bytes(digest[:8], "big") * mean < size << 64


def _up_to(rows: pa.Table, group: str, end: str | None) -> pa.Table:
    """Return the first rows, those of groups up to one; None: all."""
    if end is None or not rows.num_rows:
        return rows
    return rows.slice(0, pc.sum(pc.less_equal(rows.column(group), end)).as_py())


def _last(file: Path, group: str) -> str | None:
    """Return the last group of a segment."""
    column = pq.read_table(file, columns=[group]).column(0)
    return str(column[-1].as_py()) if len(column) else None


def _holds(file: Path, group: str, groups: pa.Array) -> bool:
    column = pq.read_table(file, columns=[group]).column(0)
    return bool(pc.any(pc.is_in(column, groups)).as_py())


def segments_of(path: Path) -> list[Path]:
    """Return a table's segments in their order; none of one that is a file."""
    return sorted(path.glob("*.parquet"))


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, by default all of its columns."""
    files = segments_of(path) or [path]
    names = list(columns) if columns else _names(files[0])
    return pa.concat_tables([_read(file, names) for file in files])


def _read(file: Path, names: list[str]) -> pa.Table:
    """Read columns of a segment; `pq.read_table` takes twice as long over a small file."""
    with pq.ParquetFile(file) as opened:
        return opened.read(names)


def rows_of(path: Path, group: str, groups: pa.Array) -> pa.Table:
    """Return the rows of some groups, reading only the segments that hold any."""
    files = [file for file in segments_of(path) if len(groups) and _holds(file, group, groups)]
    schema = pq.read_schema(segments_of(path)[0])
    found = pa.concat_tables([schema.empty_table(), *map(pq.read_table, files)])
    return found.filter(pc.is_in(found.column(group), groups)).drop_columns(DIGEST)


def read_batches(path: Path) -> pa.RecordBatchReader:
    """Return a reader of a table, for what need not be in memory as a whole."""
    files = segments_of(path) or [path]
    names = _names(files[0])
    schema = pq.read_schema(files[0])
    schema = pa.schema([schema.field(name) for name in names], schema.metadata)
    return pa.RecordBatchReader.from_batches(schema, _batches(files, names))


def _batches(files: Iterable[Path], names: list[str]) -> Iterator[pa.RecordBatch]:
    for file in files:
        with pq.ParquetFile(file) as opened:
            yield from opened.iter_batches(_READ_ROWS, columns=names)


def _names(file: Path) -> list[str]:
    return [name for name in pq.read_schema(file).names if name != DIGEST]
