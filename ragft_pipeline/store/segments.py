"""Segments: files named by their content, which never change and which artifacts share.

An artifact or a bundle holds a segment under `<title><digest>.parquet`, a hard link where the file
system allows it. So what versions have in common is on the disk once, the last link that goes frees
it, and on object storage it is one object. What is searched is an Arrow file instead, `….arrow`: it
is mapped, not read, so only what is looked at takes memory, and processes share that.
"""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from ragft_pipeline.digests import file_sha256

ROWS = 1 << 16  # of a segment, at most
_NAMED = re.compile(r"[.-]([0-9a-f]{64})\.(?:parquet|arrow)$")


def digest_in(name: str) -> str | None:
    """Return the SHA-256 that a segment's name says its bytes have; None for any other name."""
    found = _NAMED.search(name)
    return found.group(1) if found else None


def share(file: Path, target: Path) -> bool:
    """Give a file one more name; False where that cannot be, or the file is gone."""
    try:
        os.link(file, target)
    except FileExistsError:
        return True
    except OSError:  # no links on this file system, or removed by another process
        return False
    return True


def segments_below(root: Path) -> dict[str, Path]:
    """Return the segments that a store's artifacts and bundles hold on this machine, by digest."""
    return {
        digest: path
        for kind in ("artifacts/*/*", "artifacts/*/*/*", "bundles/*/*")
        for path in root.glob(f"{kind}/*")
        if (digest := digest_in(path.name))
    }


def write_mapped(rows: pa.Table, folder: Path, number: int, compression: str | None = None) -> None:
    """Write rows as the segment of a number in a folder, to be mapped unless it is compressed."""
    temporary = folder / ".segment"
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(str(temporary), rows.schema, options=options) as writer:
        writer.write_table(rows.combine_chunks())
    temporary.replace(folder / f"{number:06d}-{file_sha256(temporary)}.arrow")


def read_mapped(file: Path) -> pa.Table:
    """Return the rows of such a segment, in one chunk."""
    with pa.memory_map(str(file)) as opened:
        return pa.ipc.open_file(opened).read_all()


class SegmentWriter:
    """Writes rows to a folder as segments of at most `ROWS` rows; all are there once it closes.

    Args:
        folder: where they go; it is made.
        title: how their names begin, up to the digest.
    """

    def __init__(self, folder: Path, title: str, schema: pa.Schema) -> None:
        self._folder, self._title, self._schema = folder, title, schema
        self._temporary = folder / f".{title}{uuid.uuid4().hex}"
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        self.written: dict[Path, int] = {}  # segments, and how many rows each has

    def __enter__(self) -> SegmentWriter:
        return self

    def write(self, rows: pa.Table) -> None:
        """Append rows."""
        if not rows.num_rows:
            return
        if self._rows and self._rows + rows.num_rows > ROWS:
            self._finish()
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")
        self._writer.write_table(rows)
        self._rows += rows.num_rows

    def _finish(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        path = self._folder / f"{self._title}{file_sha256(self._temporary)}.parquet"
        self._temporary.replace(path)
        self.written[path] = self._rows
        self._writer, self._rows = None, 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        elif self._writer is not None:
            self._writer.close()
            self._temporary.unlink(missing_ok=True)
