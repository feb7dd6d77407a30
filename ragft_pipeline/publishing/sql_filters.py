"""LlamaIndex's metadata filters as a condition of SQL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ragft_pipeline.retrieval.metadata_filters import Asked, read_filters

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilters


class Dialect(Protocol):
    """How a store's SQL names the metadata; keys are plain names."""

    def column(self, key: str, kind: str) -> str:
        """Return the one value under a key, as a type."""

    def has(self, key: str, value: Any) -> str:
        """Say whether a list under a key holds a value."""

    def bare(self, key: str, field: str) -> str:
        """Say whether there is nothing under a key of a type, or an empty text."""


def condition(filters: MetadataFilters, fields: Mapping[str, str], dialect: Dialect) -> str:
    """Return filters as a condition of SQL, TRUE for none; see read_filters."""

    def join(kind: str, parts: list[str]) -> str:
        held = [f"({part})" for part in parts]
        if kind == "not":
            return " AND ".join(f"{part} IS NOT TRUE" for part in held) or "TRUE"
        return f" {kind.upper()} ".join(held) or "TRUE"

    return read_filters(filters, fields, lambda asked: _in_sql(asked, dialect), join)


def _in_sql(asked: Asked, dialect: Dialect) -> str:
    if asked.operator == "empty":
        return dialect.bare(asked.key, asked.field) if asked.field else "TRUE"
    if not asked.comparable:
        return "FALSE"
    column = dialect.column(asked.key, asked.kind)
    if asked.operator in ("any", "none", "all"):
        each = [
            dialect.has(asked.key, value) if asked.listed else f"{column} = {literal(value)}"
            for value in asked.values
        ]
        found = (" AND " if asked.operator == "all" else " OR ").join(each)
        return f"NOT ({found})" if asked.operator == "none" else found
    if "like" in asked.operator:
        pattern = re.sub(r"([\\%_])", r"\\\1", str(asked.values[0]))
        name = "LIKE" if asked.operator == "like" else "ILIKE"
        return f"{column} {name} {literal(f'%{pattern}%')}"
    return f"{column} {asked.operator} {literal(asked.values[0])}"


def literal(value: Any) -> str:
    """Return a text or a number as a literal of SQL."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
