"""Digests: of values, of files, and of a table's rows in any order."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa


def digest_of(*parts: Any) -> str:
    """Return the SHA-256 (hex) of JSON-serialisable values, told apart by position."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        if hasattr(hashlib, "file_digest"):
            return hashlib.file_digest(file, "sha256").hexdigest()
        sha = hashlib.sha256()
        while block := file.read(1 << 20):
            sha.update(block)
        return sha.hexdigest()


def table_digest(table: pa.Table | pa.RecordBatchReader, leave_out: tuple[str, ...] = ()) -> str:
    """Return a digest of the table's rows that does not depend on their order.

    Columns named in `leave_out` do not count. Duplicate rows do. A reader is read to its end, and
    of its rows only their digests are held.
    """
    names = [name for name in table.schema.names if name not in leave_out]
    columns = ", ".join(f'"{name}"' for name in names)
    with duckdb.connect() as connection:
        connection.register("given", table)
        row = connection.execute(
            "SELECT sha256(string_agg(h, '' ORDER BY h)) FROM "
            f"(SELECT sha256(to_json(kept)::VARCHAR) AS h FROM (SELECT {columns} FROM given) kept)"
        ).fetchone()
    if row is None or row[0] is None:
        return digest_of("empty", names)
    return digest_of(names, row[0])
