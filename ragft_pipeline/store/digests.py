"""The digest of a table's rows, in any order."""

from __future__ import annotations

import pyarrow as pa

from ragft_pipeline.digests import digest_of
from ragft_pipeline.store import database


def table_digest(table: pa.Table | pa.RecordBatchReader, leave_out: tuple[str, ...] = ()) -> str:
    """Return a digest of the table's rows that does not depend on their order.

    Columns named in `leave_out` do not count. Duplicate rows do. A reader is read to its end, and
    of its rows only their digests are held.
    """
    names = [name for name in table.schema.names if name not in leave_out]
    columns = ", ".join(f'"{name}"' for name in names)
    with database.connection() as connection:
        connection.register("given", table)
        row = connection.execute(
            "SELECT sha256(string_agg(h, '' ORDER BY h)) FROM "
            f"(SELECT sha256(to_json(kept)::VARCHAR) AS h FROM (SELECT {columns} FROM given) kept)"
        ).fetchone()
    if row is None or row[0] is None:
        return digest_of("empty", names)
    return digest_of(names, row[0])
