"""When two stores hold the same tables: keys and values equal, floating-point lists nearly so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.lineage.steps import Recipe
from ragft_pipeline.questions.round_trip import LANGUAGES, RANKS
from ragft_pipeline.schemas import TEACHER_SCORES, VECTORS, Table
from ragft_pipeline.store import Artifact, ArtifactStore
from ragft_pipeline.store.rows import read_rows_of
from ragft_pipeline.tuning.teacher_lists import read_scores

TOLERANCE = 1e-5
CHOICES = "chosen_on", "questions", "with_context", "without", "bm25_weight"


def assert_same_version(
    left: ArtifactStore, right: ArtifactStore, version: str, recipes: Iterable[Recipe]
) -> None:
    """Compare a version's tables in two stores: rows by key, and the content data versions."""
    for recipe in recipes:
        ours, theirs = left.read(version, recipe.name), right.read(version, recipe.name)
        if recipe.table is not None:
            taught = recipe.table is TEACHER_SCORES
            tables = [read_scores(one) if taught else one.table() for one in (ours, theirs)]
            assert_same_rows(recipe.table, *tables, recipe.name)
        if (ours.path / LANGUAGES).is_file():
            assert (ours.path / LANGUAGES).read_text() == (theirs.path / LANGUAGES).read_text()
            assert _ranks(ours) == _ranks(theirs)
        if recipe.name == "node_embeddings":
            assert_same_rows(VECTORS, _vectors(ours), _vectors(theirs), recipe.name)
        for fact in CHOICES:
            assert ours.facts.get(fact) == theirs.facts.get(fact), f"{fact} of {recipe.name}"
        assert ours.data_version == theirs.data_version, f"{recipe.name} of {version}"


def _ranks(artifact: Artifact) -> dict[str, tuple[int, int]]:
    """Return how many nodes score higher than each question's source, by embedder and by BM25."""
    rows = artifact.table(RANKS).to_pylist()
    return {row["question_id"]: (row["dense_above"], row["words_above"]) for row in rows}


def _vectors(artifact: Artifact) -> pa.Table:
    """Return the vectors that the index names, each once, without the text that it was made for."""
    keys = artifact.table().column("row_key").combine_chunks()
    held = read_rows_of(artifact.path, "vectors_document")
    rows = {row["row_key"]: {**row, "text_id": ""} for row in held.to_pylist()}
    assert rows.keys() >= set(keys.to_pylist())
    wanted = [rows[key] for key in sorted(set(keys.to_pylist()))]
    return pa.Table.from_pylist(wanted, schema=VECTORS.schema)


def assert_same_rows(table: Table, left: pa.Table, right: pa.Table, name: str) -> None:
    """Compare two tables of one schema, whatever the order of their rows."""
    assert left.schema == right.schema == table.schema, name
    ours, theirs = _by_key(table, left), _by_key(table, right)
    assert ours.keys() == theirs.keys(), (
        f"{name}: only in the first {sorted(ours.keys() - theirs.keys())}, "
        f"only in the second {sorted(theirs.keys() - ours.keys())}"
    )
    near = [field.name for field in table.schema if _is_float_list(field.type)]
    for key, row in ours.items():
        other = theirs[key]
        for column, value in row.items():
            where = f"{name} {key} {column}"
            if column in near:
                np.testing.assert_allclose(
                    value, other[column], rtol=0, atol=TOLERANCE, err_msg=where
                )
            else:
                assert value == other[column], where


def _by_key(table: Table, rows: pa.Table) -> dict[tuple[Any, ...], dict[str, Any]]:
    found = {tuple(row[name] for name in table.key): row for row in rows.to_pylist()}
    assert len(found) == rows.num_rows, f"{table.name}: rows with one key"
    return found


def _is_float_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) and pa.types.is_floating(kind.value_type)
