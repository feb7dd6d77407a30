"""LanceDB: a table a family, a generation a version of it, and a pointer table.

A LanceDB table keeps its versions, so a generation of the same family is the commits of its
difference, and the one before stays readable under its number. What is live stands in the table
`<collection>_generations`, one row that is replaced by one commit: that commit is the switch. (A
tag is the pointer within one table only, and another embedder is another table.) Versions that are
kept are tagged, so that no clean-up takes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError, one_line
from ragft_pipeline.publishing.locks import only_writer
from ragft_pipeline.publishing.manifest import DENSE, Manifest, State
from ragft_pipeline.publishing.points import Point
from ragft_pipeline.publishing.rows import node_payload
from ragft_pipeline.publishing.sql_filters import condition, literal
from ragft_pipeline.publishing.target import Found, Origin, Target
from ragft_pipeline.retrieval.metadata_fields import LIST, NUMBER, TEXT

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilters

_POINTER_VERSIONS = 50  # of the pointer table, before they are cleaned up


class LanceTarget(Target):
    """A collection in a LanceDB database.

    Args:
        uri: a folder, or a URL of object storage.
        collection: what its tables' names begin with.
        locks: where the lock of the one writer lies.

    Raises RagftError where lancedb is not installed or the database cannot be opened.
    """

    holds: tuple[str, ...] = (DENSE,)

    def __init__(self, uri: str, collection: str, locks: Path) -> None:
        try:
            import lancedb
        except ImportError:
            raise RagftError(
                "targets of kind lancedb: pip install 'ragft-pipeline[lancedb]' first"
            ) from None
        self.collection = collection
        self._uri, self._locks = uri, locks
        self._open_tables: dict[tuple[str, int], Any] = {}
        self._opening = Lock()
        try:
            self._db = lancedb.connect(uri, read_consistency_interval=timedelta(0))
        except Exception as error:
            raise RagftError(f"LanceDB {uri}: {one_line(error)}") from None

    def writer(self) -> AbstractContextManager[None]:
        """Be the only writer of this machine."""
        return only_writer(self._locks, f"lancedb {self._uri} {self.collection}")

    def state(self) -> State:
        """Return what the pointer table says."""
        if self._pointer_name not in self._names():
            return State()
        rows = self._db.open_table(self._pointer_name).to_arrow().to_pylist()
        found = json.loads(rows[-1]["state"]) if rows else {}
        origin = f"collection {self.collection!r}"
        return State(**{role: Manifest.parse(made, origin) for role, made in found.items()})

    def origin(self, manifest: Manifest, state: State) -> Origin:
        """A generation goes on from the newest commit of its family's table."""
        name = self._table_name(manifest)
        if name not in self._names():
            return Origin()
        return Origin(replace(manifest, place=name))

    def begin(self, manifest: Manifest, state: State) -> Manifest:
        """Make the family's table, where there is none."""
        name = self._table_name(manifest)
        made = manifest.at(name)
        self._point(replace(state, building=made))
        if name not in self._names():
            self._db.create_table(name, schema=_schema(manifest))
        return made

    def stored(self, manifest: Manifest) -> dict[str, str]:
        """Return ids and digests, at the generation's version where it has one."""
        table = self._table(manifest)
        rows = table.search().select(["id", "digest"]).limit(table.count_rows()).to_arrow()
        return dict(zip(rows.column("id").to_pylist(), rows.column("digest").to_pylist()))

    def write(self, manifest: Manifest, points: Sequence[Point]) -> None:
        """Write rows over those of the same ids, in one commit."""
        self._merge(manifest, points)

    def _merge(self, manifest: Manifest, points: Sequence[Point]) -> None:
        rows = pa.Table.from_pylist([_row(point) for point in points], schema=_schema(manifest))
        merge = self._table(manifest).merge_insert("id")
        merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def update(self, manifest: Manifest, points: Sequence[Point]) -> None:
        """Write whole rows: Lance keeps a row's new version in a file of its own anyway."""
        self._merge(manifest, points)

    def delete(self, manifest: Manifest, ids: Sequence[str]) -> None:
        """Delete rows, in one commit."""
        listed = ", ".join(f"'{id_}'" for id_ in ids)
        self._table(manifest).delete(f"id IN ({listed})")

    def finish(self, manifest: Manifest) -> Manifest:
        """Pin the version that holds the generation."""
        name = _name_of(manifest)
        table = self._db.open_table(name)
        tag = f"generation-{manifest.number}"
        if tag in table.tags.list():
            table.tags.delete(tag)
        table.tags.create(tag, table.version)
        return manifest.at(f"{name}@{table.version}")

    def switch(self, to: Manifest, previous: Manifest | None) -> None:
        """Replace the pointer's row: one commit."""
        self._point(State(to, previous))

    def prune(self) -> int:
        """Drop tables that nothing points to, and versions of the others."""
        kept = self.state().generations
        tables = {_name_of(made) for made in kept}
        removed = 0
        for name in self._names():
            if name.startswith(f"{self.collection}_") and name != self._pointer_name:
                table = self._db.open_table(name)
                if name not in tables and self._is_family(name):
                    removed += table.count_rows()
                    self._db.drop_table(name)
                elif name in tables:
                    named = {f"generation-{made.number}" for made in kept}
                    for tag in set(table.tags.list()) - named:
                        table.tags.delete(tag)
                    _clean(table, timedelta(hours=1))
        pointer = self._db.open_table(self._pointer_name)
        if len(pointer.list_versions()) > _POINTER_VERSIONS:
            _clean(pointer, timedelta(minutes=1))
        with self._opening:
            self._open_tables.clear()
        return removed

    def search(
        self,
        manifest: Manifest,
        vector: np.ndarray,
        top: int,
        filters: MetadataFilters | None = None,
    ) -> list[Found]:
        """Search a generation's version: exactly, unless somebody has built an index on it."""
        where = condition(filters, manifest.fields, _Metadata()) if filters else ""
        query = self._table(manifest).search(np.asarray(vector, np.float32)).distance_type("dot")
        query = query.where(where) if where else query
        try:
            rows = query.select(["id", "text", "metadata", "_distance"]).limit(top).to_list()
        except Exception as error:
            raise RagftError(f"LanceDB {self._uri}: {one_line(error)}") from None
        return [
            Found(row["id"], 1.0 - float(row["_distance"]), row["text"], row["metadata"])
            for row in rows
        ]

    def table(self, manifest: Manifest) -> Any:
        """Return a generation's LanceTable, for `LanceDBVectorStore.from_table`; read only."""
        return self._table(manifest)

    def close(self) -> None:
        """Forget the tables."""
        self._open_tables.clear()

    @property
    def _pointer_name(self) -> str:
        return f"{self.collection}_generations"

    def _table_name(self, manifest: Manifest) -> str:
        """A table's columns stand from the first: other fields of documents are another table."""
        family = digest_of(manifest.family, manifest.fields) if manifest.fields else manifest.family
        return f"{self.collection}_{family[:12]}"

    def _is_family(self, name: str) -> bool:
        tail = name.removeprefix(f"{self.collection}_")
        return len(tail) == 12 and all(c in "0123456789abcdef" for c in tail)

    def _names(self) -> list[str]:
        found: list[str] = []
        while page := list(self._db.table_names(found[-1] if found else None, limit=100)):
            found += page
        return found

    def _table(self, manifest: Manifest) -> Any:
        """Return a generation's table: at its version, or the newest while it is built."""
        name, _, version = manifest.place.partition("@")
        if not version:
            return self._db.open_table(name)
        key = (name, int(version))
        with self._opening:
            if key not in self._open_tables:
                table = self._db.open_table(name)
                table.checkout(key[1])
                self._open_tables[key] = table
            return self._open_tables[key]

    def _point(self, state: State) -> None:
        made = {"live": state.live, "previous": state.previous, "building": state.building}
        text = json.dumps({role: each.to_json() for role, each in made.items() if each})
        row = pa.table({"state": [text]})
        if self._pointer_name in self._names():
            self._db.open_table(self._pointer_name).add(row, mode="overwrite")
        else:
            self._db.create_table(self._pointer_name, row)


def _clean(table: Any, age: timedelta) -> None:
    """Join small fragments, and drop the versions of some age that have no tag.

    LanceDB's own `optimize` refuses as soon as a tagged version is that old.
    """
    data = table.to_lance()
    data.optimize.compact_files()
    data.cleanup_old_versions(older_than=age, error_if_tagged_old_versions=False)


def _name_of(manifest: Manifest) -> str:
    return manifest.place.partition("@")[0]


class _Metadata:
    """The column `metadata` in filters; a key that is a word of SQL is one all the same."""

    def column(self, key: str, kind: str) -> str:
        return f"metadata.`{key}`"

    def has(self, key: str, value: Any) -> str:
        return f"array_has({self.column(key, '')}, {literal(value)})"

    def bare(self, key: str, field: str) -> str:
        column = self.column(key, field)
        return f"({column} IS NULL OR {column} = '')" if field == TEXT else f"{column} IS NULL"


def _schema(manifest: Manifest) -> pa.Schema:
    texts = ("path", "title", "heading", "_node_content", "_node_type", "document_id", "doc_id",
             "ref_doc_id")  # fmt: skip
    fields = dict.fromkeys(texts, TEXT) | manifest.fields
    metadata = pa.struct([(name, _arrow(kind)) for name, kind in fields.items()])
    return pa.schema(
        [
            ("id", pa.string()), ("digest", pa.string()), ("doc_id", pa.string()),
            ("text", pa.string()), ("metadata", metadata),
            ("vector", pa.list_(pa.float32(), manifest.width)),
        ]
    )  # fmt: skip


def _arrow(kind: str) -> pa.DataType:
    if kind.startswith(LIST):
        return pa.list_(_arrow(kind.removeprefix(LIST)))
    return pa.float64() if kind == NUMBER else pa.string()


def _row(point: Point) -> dict[str, Any]:
    return {
        "id": point.id, "digest": point.digest, "doc_id": point.doc_key, "text": point.text,
        "metadata": node_payload(point), "vector": point.vector,
    }  # fmt: skip
