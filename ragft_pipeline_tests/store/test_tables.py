"""Tables in segments: however a table came about, equal rows are equal files."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from ragft_pipeline.store import table_digest
from ragft_pipeline.store.tables import Layout, Splice, read_batches, read_table, segments_of

SCHEMA = pa.schema([("doc", pa.string()), ("place", pa.int64()), ("text", pa.string())])
LAYOUT = Layout(SCHEMA, "doc", ("text",), rows=12)
DOCS = st.dictionaries(st.sampled_from([f"{n:02}" for n in range(40)]), st.integers(1, 9))
Docs = dict[str, int]  # a document's number of rows


def rows_of(docs: Docs) -> pa.Table:
    rows = [
        {"doc": doc, "place": 10 * number + place, "text": f"{doc} {place}"}
        for doc, number in sorted(docs.items())
        for place in range(number)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def names(folder: Path) -> list[str]:
    return [file.name for file in segments_of(folder)]


@settings(max_examples=8)
@given(st.lists(DOCS, min_size=2, max_size=4))
def test_a_history_of_changes_leaves_the_segments_of_a_table_written_at_once(
    history: list[Docs],
) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        LAYOUT.write(rows_of(history[0]), root / "0")
        for number, (before, docs) in enumerate(itertools.pairwise(history), 1):
            whole = rows_of(docs)
            reader = whole.to_reader(max_chunksize=40)
            assert LAYOUT.write(reader, root / f"whole{number}") == whole.num_rows
            change = LAYOUT.change(root / f"{number - 1}", root / f"whole{number}")
            assert change is not None
            other = {doc for doc in before | docs if before.get(doc) != docs.get(doc)}
            assert set(change.groups.to_pylist()) == other
            for table, old_or_new in ((change.before, before), (change.after, docs)):
                kept = {doc: size for doc, size in old_or_new.items() if doc in other}
                assert table.equals(rows_of(kept))
            splice = Splice(root / f"{number - 1}", change.groups, change.after)
            assert LAYOUT.write(splice, root / f"{number}") == whole.num_rows
            assert names(root / f"{number}") == names(root / f"whole{number}")
            assert read_table(root / f"{number}").equals(whole)
            assert read_batches(root / f"{number}").read_all().equals(whole)
            assert LAYOUT.digest(root / f"{number}") == table_digest(whole, ("text",))


def test_an_edit_writes_a_few_segments_and_links_the_rest(tmp_path: Path) -> None:
    docs = {f"{n:03}": 3 for n in range(200)}
    LAYOUT.write(rows_of(docs), tmp_path / "a")
    edited = rows_of({"100": 4})
    LAYOUT.write(Splice(tmp_path / "a", pa.array(["100"]), edited), tmp_path / "b")
    before = {file.stat().st_ino for file in segments_of(tmp_path / "a")}
    after = {file.stat().st_ino for file in segments_of(tmp_path / "b")}
    assert len(before) > 20
    assert len(after - before) <= 3


def test_a_column_that_does_not_count_may_differ(tmp_path: Path) -> None:
    table = rows_of({"00": 2, "01": 2})
    other = table.set_column(2, "text", pc.add_checked(table.column("place"), 1).cast(pa.string()))
    for name, rows in (("a", table), ("b", other)):
        LAYOUT.write(rows, tmp_path / name)
    assert LAYOUT.digest(tmp_path / "a") == LAYOUT.digest(tmp_path / "b")


def test_a_file_of_before_segments_is_read(tmp_path: Path) -> None:
    table: Any = rows_of({"00": 2, "01": 9})
    pq.write_table(table, tmp_path / "old.parquet")
    assert read_table(tmp_path / "old.parquet", ["text"]).equals(table.select(["text"]))
    assert read_batches(tmp_path / "old.parquet").read_all().equals(table)
    LAYOUT.write(table, tmp_path / "new")
    assert LAYOUT.change(tmp_path / "old.parquet", tmp_path / "new") is None
