"""PostgreSQL with pgvector: rows that are valid from one generation to another, and a view.

Every family has a table. A row is valid from the generation `since` up to, and without, `until`;
so the difference to the generation before is rows that begin and rows that end, and both
generations stand side by side. What is live is the row of `ragft_live`, and the view
`data_<collection>` shows its rows in the columns that LlamaIndex's PGVectorStore reads; both change
in one transaction, which is the switch. The view is replaced, not dropped, so grants on it stay.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from ragft_pipeline.publishing.extras import TERM_IDS
from ragft_pipeline.publishing.manifest import DENSE, WORDS, Manifest, State
from ragft_pipeline.publishing.points import Point
from ragft_pipeline.publishing.postgres_connections import Connections
from ragft_pipeline.publishing.postgres_search import (
    fused,
    near_to,
    rows_of,
    terms_of,
    valid_in,
    vector_literal,
    words_asked,
)
from ragft_pipeline.publishing.rows import node_payload
from ragft_pipeline.publishing.target import Found, Origin, Target

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilters

_OPEN = 9223372036854775807  # `until` of a row that has not ended
_INDEXED = 50_000  # rows from which an HNSW index is built; fewer are searched exactly
_WIDEST = 2_000  # numbers of a vector that pgvector can index
_SETUP = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS ragft_generations (
    collection text, number bigint, manifest jsonb NOT NULL, PRIMARY KEY (collection, number));
CREATE TABLE IF NOT EXISTS ragft_live (
    collection text PRIMARY KEY, live bigint, previous bigint, building bigint);
"""


class PostgresTarget(Target):
    """A collection in a PostgreSQL database.

    Args:
        url: `postgresql://user@host/database`; the password comes from elsewhere.
        collection: what its tables' names end with.
        password: of the user; "" where none is needed.

    Raises RagftError where psycopg2 is not installed or the database cannot be reached.
    """

    holds: tuple[str, ...] = (DENSE, WORDS)

    def __init__(self, url: str, collection: str, password: str = "") -> None:
        self.collection = collection
        self._connections = Connections(url, password)
        self._cursor = self._connections.cursor
        self._view = f"data_{collection}"
        with self._cursor() as cursor:
            if not _is_there(cursor, "ragft_live"):
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ragft setup'))")
                cursor.execute(_SETUP)

    def writer(self) -> AbstractContextManager[None]:
        """Hold an advisory lock of the database."""
        return self._connections.only_writer(self.collection)

    def state(self) -> State:
        """Return what `ragft_live` and the manifests say."""
        roles = ("live", "previous", "building")
        joined = " ".join(
            f"LEFT JOIN ragft_generations {role[0]} ON {role[0]}.collection = x.collection "
            f"AND {role[0]}.number = x.{role}"
            for role in roles
        )
        shown = ", ".join(f"{role[0]}.manifest" for role in roles)
        with self._cursor() as cursor:
            cursor.execute(
                f"SELECT {shown} FROM ragft_live x {joined} WHERE x.collection = %s",
                (self.collection,),
            )
            row = cursor.fetchone()
        if row is None:
            return State()
        origin = f"collection {self.collection!r}"
        made = [Manifest.parse(each, origin) if each is not None else None for each in row]
        return State(*made)

    def origin(self, manifest: Manifest, state: State) -> Origin:
        """A generation goes on from the rows of its family that have not ended."""
        table = self._table_name(manifest)
        with self._cursor() as cursor:
            return Origin(manifest.at(table) if _is_there(cursor, table) else None)

    def begin(self, manifest: Manifest, state: State) -> Manifest:
        """Make the family's table, and write down that a generation is being built."""
        table = self._table_name(manifest)
        words = WORDS in manifest.parts
        more = f", terms tsvector, words sparsevec({TERM_IDS})" if words else ""
        made = manifest.at(table)
        with self._cursor() as cursor:
            cursor.execute(
                f'CREATE TABLE IF NOT EXISTS "{table}" (row bigserial PRIMARY KEY, '
                "id text NOT NULL, digest text NOT NULL, since bigint NOT NULL, "
                f"until bigint NOT NULL DEFAULT {_OPEN}, node_id text NOT NULL, "
                f"text text NOT NULL, metadata_ json, embedding vector({manifest.width}){more}, "
                "UNIQUE (id, until))"
            )
            if words:
                cursor.execute(
                    f'CREATE INDEX IF NOT EXISTS "{table}_terms" ON "{table}" USING gin (terms)'
                )
            self._write_manifest(cursor, made)
            cursor.execute(
                "INSERT INTO ragft_live (collection, building) VALUES (%s, %s) "
                "ON CONFLICT (collection) DO UPDATE SET building = excluded.building",
                (self.collection, made.number),
            )
        return made

    def stored(self, manifest: Manifest) -> dict[str, str]:
        """Return ids and digests of the rows that are valid in a generation."""
        with self._cursor() as cursor:
            cursor.execute(f'SELECT id, digest FROM "{manifest.place}" WHERE {valid_in(manifest)}')
            return dict(cursor.fetchall())

    def write(self, manifest: Manifest, points: Sequence[Point]) -> None:
        """Begin rows in place of those of the same ids, in one transaction."""
        from psycopg2.extras import execute_values

        words = WORDS in manifest.parts
        columns = "id, digest, since, node_id, text, metadata_, embedding"
        template = "(%s, %s, %s, %s, %s, %s, %s::vector"
        if words:
            columns += ", terms, words"
            template += f", array_to_tsvector(%s::text[]), %s::sparsevec({TERM_IDS})"
        rows = [
            (
                point.id, point.digest, manifest.number, point.node_id, point.text,
                json.dumps(node_payload(point)), vector_literal(point.vector),
                *(terms_of(point) if words else ()),
            )
            for point in points
        ]  # fmt: skip
        with self._cursor() as cursor:
            self._remove(cursor, manifest, [point.id for point in points])
            execute_values(
                cursor,
                f'INSERT INTO "{manifest.place}" ({columns}) VALUES %s',
                rows,
                template=f"{template})",
            )

    def update(self, manifest: Manifest, points: Sequence[Point]) -> None:
        """Begin rows with the vectors and terms of those that they end, in one transaction."""
        from psycopg2.extras import execute_values

        place, number = f'"{manifest.place}"', manifest.number
        held = "embedding, terms, words" if WORDS in manifest.parts else "embedding"
        given = [(p.id, p.digest, json.dumps(node_payload(p))) for p in points]
        with self._cursor() as cursor:
            self._end(cursor, manifest, [point.id for point in points])
            execute_values(
                cursor,
                f"INSERT INTO {place} (id, digest, since, node_id, text, metadata_, {held}) "
                f"SELECT DISTINCT ON (id) id, given.digest, {number}, node_id, text, "
                f"given.metadata_::json, {held} FROM {place} AS old "
                "JOIN (VALUES %s) AS given (id, digest, metadata_) USING (id) "
                f"WHERE until IN ({_OPEN}, {number}) ON CONFLICT (id, until) "
                "DO UPDATE SET digest = excluded.digest, metadata_ = excluded.metadata_",
                given,
            )

    def delete(self, manifest: Manifest, ids: Sequence[str]) -> None:
        """End rows: those of older generations stay for these."""
        with self._cursor() as cursor:
            self._remove(cursor, manifest, list(ids))

    def _end(self, cursor: Any, manifest: Manifest, ids: list[str]) -> None:
        """End the rows of older generations; those that began with this one stay."""
        cursor.execute(
            f'UPDATE "{manifest.place}" SET until = %s '
            f"WHERE id = ANY(%s) AND until = {_OPEN} AND since < %s",
            (manifest.number, ids, manifest.number),
        )

    def _remove(self, cursor: Any, manifest: Manifest, ids: list[str]) -> None:
        """End rows, and delete those that began with this generation."""
        self._end(cursor, manifest, ids)
        cursor.execute(
            f'DELETE FROM "{manifest.place}" WHERE id = ANY(%s) AND until = {_OPEN}', (ids,)
        )

    def finish(self, manifest: Manifest) -> Manifest:
        """Index and analyse the table, and write the manifest down."""
        with self._cursor() as cursor:
            if manifest.points >= _INDEXED and manifest.width <= _WIDEST:
                cursor.execute(
                    f'CREATE INDEX IF NOT EXISTS "{manifest.place}_near" ON "{manifest.place}" '
                    "USING hnsw (embedding vector_cosine_ops)"
                )
            cursor.execute(f'ANALYZE "{manifest.place}"')
            self._write_manifest(cursor, manifest)
        return manifest

    def switch(self, to: Manifest, previous: Manifest | None) -> None:
        """Move the pointer and replace the view, in one transaction."""
        columns = "row AS id, text, metadata_, node_id, embedding::vector AS embedding"
        with self._cursor() as cursor:
            self._write_manifest(cursor, to)
            cursor.execute(
                "INSERT INTO ragft_live (collection, live, previous) VALUES (%s, %s, %s) "
                "ON CONFLICT (collection) DO UPDATE SET live = excluded.live, "
                "previous = excluded.previous, building = NULL",
                (self.collection, to.number, previous.number if previous else None),
            )
            cursor.execute(
                f'CREATE OR REPLACE VIEW "{self._view}" AS SELECT {columns} FROM "{to.place}" '
                f"WHERE {valid_in(to)}"
            )

    def prune(self) -> int:
        """Delete rows that are valid in no generation that is kept, and tables of no family."""
        kept = self.state().generations
        removed = 0
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT manifest->>'place' FROM ragft_generations WHERE collection = %s",
                (self.collection,),
            )
            for (place,) in cursor.fetchall():
                if all(made.place != place for made in kept):
                    if _is_there(cursor, place):
                        cursor.execute(f'SELECT count(*) FROM "{place}"')
                        removed += int(cursor.fetchone()[0])
                        cursor.execute(f'DROP TABLE "{place}"')
                    continue
                valid = " OR ".join(f"({valid_in(made)})" for made in kept if made.place == place)
                cursor.execute(f'DELETE FROM "{place}" WHERE NOT ({valid})')
                removed += int(cursor.rowcount)
            cursor.execute(
                "DELETE FROM ragft_generations WHERE collection = %s AND NOT number = ANY(%s)",
                (self.collection, [made.number for made in kept]),
            )
        return removed

    def search(
        self,
        manifest: Manifest,
        vector: np.ndarray,
        top: int,
        filters: MetadataFilters | None = None,
    ) -> list[Found]:
        """Search the rows of a generation; by the HNSW index where there is one."""
        near = near_to(vector)
        return self._best(manifest, f"1 - ({near})", near, top, rows_of(manifest, filters))

    def search_words(
        self,
        manifest: Manifest,
        question: str,
        top: int,
        filters: MetadataFilters | None = None,
    ) -> list[Found]:
        """Search by BM25: text search finds the rows that hold a term, our weights order them.

        The frequency of each term is counted among the generation's rows when it is asked.
        """
        with self._cursor() as cursor:
            asked = words_asked(cursor, manifest, question)
        if asked is None:
            return []
        near, any_term = asked
        rows = f"{rows_of(manifest, filters)} AND {any_term}"
        return self._best(manifest, f"-({near})", near, top, rows)

    def search_hybrid(
        self,
        manifest: Manifest,
        question: str,
        vector: np.ndarray,
        top: int,
        filters: MetadataFilters | None = None,
        tokens: np.ndarray | None = None,
        depth: int = 100,
    ) -> list[Found]:
        """Search by the bundle's fusion, exactly: both scores of every row are computed.

        Token vectors have no place here: late interaction is left to the application.
        """
        weight = manifest.dense_weight
        with self._cursor() as cursor:
            asked = words_asked(cursor, manifest, question)
        if weight is None or asked is None:
            return self.search(manifest, vector, top, filters)
        scores = fused(f"1 - ({near_to(vector)})", asked, weight, rows_of(manifest, filters))
        best = f"{scores} ORDER BY score DESC LIMIT {int(top)}"
        rows = f'FROM ({best}) AS best JOIN "{manifest.place}" USING (row)'
        return self._best(manifest, "score", "score DESC", top, rows)

    def _best(self, manifest: Manifest, score: str, order: str, top: int, rows: str) -> list[Found]:
        with self._cursor() as cursor:
            if manifest.points >= _INDEXED:
                cursor.execute("SET LOCAL hnsw.ef_search = 200")
                cursor.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            cursor.execute(
                f"SELECT id, {score}, text, metadata_ {rows} ORDER BY {order} LIMIT {int(top)}"
            )
            return [Found(id_, float(value), *rest) for id_, value, *rest in cursor.fetchall()]

    def close(self) -> None:
        """Close every connection."""
        self._connections.close()

    def _table_name(self, manifest: Manifest) -> str:
        return f"ragft_{self.collection}_{manifest.family[:12]}"

    def _write_manifest(self, cursor: Any, manifest: Manifest) -> None:
        cursor.execute(
            "INSERT INTO ragft_generations (collection, number, manifest) VALUES (%s, %s, %s) "
            "ON CONFLICT (collection, number) DO UPDATE SET manifest = excluded.manifest",
            (self.collection, manifest.number, json.dumps(manifest.to_json())),
        )


def _is_there(cursor: Any, table: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (f'"{table}"',))
    return bool(cursor.fetchone()[0])
