"""What is searched, in PostgreSQL's SQL: vectors, BM25 with our weights, their fusion, filters.

A term stands in a row twice: as it is in a `tsvector`, which an index finds, and with its weight in
a `sparsevec`, which an inner product scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ragft_pipeline.publishing.extras import TERM_IDS, question_terms, term_id
from ragft_pipeline.publishing.manifest import Manifest
from ragft_pipeline.publishing.points import Point
from ragft_pipeline.publishing.sql_filters import condition, literal
from ragft_pipeline.retrieval.metadata_fields import TEXT

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilters

_LONGEST_TERM = 2_000  # bytes; a tsvector takes 2,046


def valid_in(manifest: Manifest) -> str:
    """Return the condition that a row is of a generation."""
    return f"since <= {manifest.number} AND until > {manifest.number}"


def rows_of(manifest: Manifest, filters: MetadataFilters | None) -> str:
    """Return the rows of a generation that filters leave, as what follows a SELECT's columns."""
    kept = "" if filters is None else f" AND ({condition(filters, manifest.fields, Metadata())})"
    return f'FROM "{manifest.place}" WHERE {valid_in(manifest)}{kept}'


def near_to(vector: np.ndarray) -> str:
    """Return a row's cosine distance from a vector."""
    return f"embedding <=> '{vector_literal(vector)}'::vector"


def vector_literal(vector: Iterable[np.floating[Any]]) -> str:
    """Return a vector as pgvector reads it."""
    return "[" + ",".join(repr(float(value)) for value in vector) + "]"


def terms_of(point: Point) -> tuple[list[str], str | None]:
    """Return a point's terms, and its weights as a sparsevec."""
    terms = sorted({term for term in point.terms if len(term.encode()) <= _LONGEST_TERM})
    return terms, _sparse(list(zip(*point.words))) if point.words is not None else None


def words_asked(cursor: Any, manifest: Manifest, question: str) -> tuple[str, str] | None:
    """Return a question's negative inner product with a row, and the condition that it has a term.

    None where no row has one. How many rows have a term is counted here, for its weight.

    Raises RagftError where the generation holds no words.
    """
    counts = question_terms(question, manifest)
    frequency = {}
    for term in counts:
        cursor.execute(
            f'SELECT count(*) FROM "{manifest.place}" WHERE {valid_in(manifest)} '
            "AND terms @@ %s::tsquery",
            (_lexeme(term),),
        )
        frequency[term] = int(cursor.fetchone()[0])
    weights: dict[int, float] = {}
    for term, count in counts.items():
        if known := frequency[term]:
            idf = float(np.log(1 + (manifest.points - known + 0.5) / (known + 0.5)))
            weights[term_id(term)] = weights.get(term_id(term), 0.0) + count * idf
    if not weights:
        return None
    near = f"words <#> '{_sparse(sorted(weights.items()))}'::sparsevec({TERM_IDS})"
    any_term = " | ".join(_lexeme(term) for term in counts if frequency[term])
    return near, f"terms @@ {literal(any_term)}::tsquery"


def fused(dense: str, words: tuple[str, str], weight: float, rows: str) -> str:
    """Return a SELECT of rows and their fused scores, each part scaled to 0..1 over all rows.

    Args:
        dense: a row's score by its vector.
        words: as `words_asked` gives them.
        weight: of the dense score.
        rows: as `rows_of` gives them.
    """
    near, any_term = words
    scores = (
        f"SELECT row, {dense} AS dense, CASE WHEN {any_term} THEN -({near}) ELSE 0 END AS said "
        f"{rows}"
    )
    scaled = (
        "({0} - min({0}) OVER ()) / greatest(max({0}) OVER () - min({0}) OVER (), 1e-9) * {1}"
    ).format
    return (
        f"SELECT row, {scaled('dense', weight)} + {scaled('said', 1 - weight)} AS score "
        f"FROM ({scores}) AS scored"
    )


class Metadata:
    """The column `metadata_` in filters; a row of another generation may hold another type."""

    def column(self, key: str, kind: str) -> str:
        """Return the value under a key; texts are ordered by their characters."""
        found = f"(metadata_->>'{key}')"
        if kind == TEXT:
            return f'{found} COLLATE "C"'
        return f"CASE json_typeof(metadata_->'{key}') WHEN 'number' THEN {found}::float8 END"

    def has(self, key: str, value: Any) -> str:
        """Say whether a list under a key holds a value."""
        return f"(metadata_->'{key}')::jsonb @> {literal(json.dumps([value]))}::jsonb"

    def bare(self, key: str, field: str) -> str:
        """Say whether there is nothing under a key."""
        return f"coalesce(metadata_->>'{key}', '') = ''"


def _sparse(weights: Sequence[tuple[int, float]]) -> str:
    places = ",".join(f"{at + 1}:{float(value)!r}" for at, value in weights)
    return f"{{{places}}}/{TERM_IDS}"


def _lexeme(term: str) -> str:
    quoted = term.replace("\\", "\\\\").replace("'", "''")
    return f"'{quoted}'"
