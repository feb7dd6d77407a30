from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ragft_pipeline.digests import digest_of, file_sha256
from ragft_pipeline.schemas import VECTORS
from ragft_pipeline.store import table_digest
from ragft_pipeline.store.tables import read_table

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            "score": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "ids": st.lists(st.integers(0, 9), max_size=3),
        }
    ),
    min_size=1,
    max_size=6,
)
SCHEMA = pa.schema([("name", pa.string()), ("score", pa.float64()), ("ids", pa.list_(pa.int64()))])


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@settings(max_examples=20)
@given(ROWS, st.randoms())
def test_the_order_of_rows_does_not_change_a_table_digest(
    rows: list[dict[str, Any]], random: Any
) -> None:
    shuffled = random.sample(rows, len(rows))
    assert table_digest(table(shuffled)) == table_digest(table(rows))


@settings(max_examples=20)
@given(ROWS)
def test_a_duplicate_row_changes_a_table_digest(rows: list[dict[str, Any]]) -> None:
    assert table_digest(table([*rows, rows[0]])) != table_digest(table(rows))


def test_every_value_counts() -> None:
    base: dict[str, Any] = {"name": "a", "score": 0.1, "ids": [1, 2]}
    others: list[dict[str, Any]] = [
        {"name": "b"},
        {"name": None},
        {"name": "null"},
        {"score": 0.1 + 1e-16},
        {"score": None},
        {"ids": [2, 1]},
        {"ids": []},
        {"ids": None},
    ]
    digests = {table_digest(table([base | other])) for other in [{}, *others]}
    assert len(digests) == 1 + len(others)


@settings(max_examples=20)
@given(ROWS)
def test_a_reader_has_the_digest_of_its_table(rows: list[dict[str, Any]]) -> None:
    for leave_out in ((), ("ids",)):
        reader = table(rows).to_reader(max_chunksize=2)
        assert table_digest(reader, leave_out) == table_digest(table(rows), leave_out)


def test_a_written_table_has_the_digest_of_its_rows(tmp_path: Path) -> None:
    rows = [
        {"row_key": key, "text_id": f"{key}…", "vector": [0.5, value]}
        for key, value in (("a", 1.0), ("b", 2.0))
    ]
    given = pa.Table.from_pylist(rows, schema=VECTORS.schema)
    for name, form in (("table", given), ("reader", given.to_reader())):
        assert VECTORS.layout.write(form, tmp_path / name) == 2
        assert read_table(tmp_path / name).equals(given)
        assert VECTORS.layout.digest(tmp_path / name) == table_digest(given, ("vector",))


def test_volatile_columns_do_not_count() -> None:
    left, right = (pa.table({"id": ["a"], "vector": [[value]]}) for value in (0.5, 0.25))
    assert table_digest(left, ("vector",)) == table_digest(right, ("vector",))
    assert table_digest(left) != table_digest(right)


def test_values_are_told_apart_by_position() -> None:
    assert len({digest_of("ab", "c"), digest_of("a", "bc"), digest_of(["ab", "c"])}) == 3
    assert digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1})


def test_a_file_digest_is_its_sha256(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 3_000_000)
    assert file_sha256(file) == hashlib.sha256(b"x" * 3_000_000).hexdigest()


@given(st.lists(st.text() | st.just('"\\ \ud800\u2028\x00\x1f\x7f')))
def test_texts_have_the_digest_of_their_json(texts: list[str]) -> None:
    data = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
    known = hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()
    assert digest_of(*texts) == known
