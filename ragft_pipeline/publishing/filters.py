"""LlamaIndex's metadata filters as a condition of SQL, for the stores that speak it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ragft_pipeline.errors import RagftError

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilters

_COMPARED = {"==": "=", "!=": "<>", ">": ">", "<": "<", ">=": ">=", "<=": "<="}
_LISTED = {"in": "IN", "nin": "NOT IN"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
Column = Callable[[str, bool], str]  # a key of the metadata, and whether as a number: to SQL


def condition(filters: MetadataFilters, column: Column) -> str:
    """Return a condition on the metadata.

    Args:
        column: gives the expression of a key, as a number where the flag says so.

    Raises RagftError for an operator that the stores do not share, or a key that is no plain name.
    """
    from llama_index.core.vector_stores.types import MetadataFilters as Nested

    parts = [
        f"({condition(each, column)})" if isinstance(each, Nested) else _one(each, column)
        for each in filters.filters
    ]
    kind = str(getattr(filters.condition, "value", filters.condition) or "and").lower()
    if kind == "not":
        return f"NOT ({' AND '.join(parts)})"
    return f" {kind.upper()} ".join(parts) or "TRUE"


def _one(each: Any, column: Column) -> str:
    operator = str(getattr(each.operator, "value", each.operator))
    key, value = str(each.key), each.value
    if not _NAME.fullmatch(key):
        raise RagftError(f"filter {key!r}: a key is letters, digits and _")
    if operator in _COMPARED:
        return f"{column(key, _is_number(value))} {_COMPARED[operator]} {literal(value)}"
    if operator in _LISTED and isinstance(value, list) and value:
        listed = ", ".join(literal(one) for one in value)
        return f"{column(key, _is_number(value[0]))} {_LISTED[operator]} ({listed})"
    if operator == "is_empty":
        return f"({column(key, False)} IS NULL OR {column(key, False)} = '')"
    if operator in ("text_match", "contains"):
        pattern = str(value).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return f"{column(key, False)} LIKE {literal(f'%{pattern}%')}"
    raise RagftError(f"filter {key!r}: the operator {operator!r} is not to be had in this store")


def literal(value: Any) -> str:
    """Return a value as a literal of SQL; RagftError for what is neither text nor number."""
    if _is_number(value):
        return repr(value)
    if isinstance(value, str) and "\x00" not in value:
        return "'" + value.replace("'", "''") + "'"
    raise RagftError(f"filter: {value!r} is neither text nor number")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
