"""LlamaIndex's metadata filters, read alike for every store, and as a condition of SQL.

A key holds one value, or a list of values; then `==`, `in`, `any` and `contains` ask whether one of
them is among those asked for, `all` whether all of these are there, `!=` and `nin` whether none is.
What a document does not say matches none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ragft_pipeline.errors import RagftError
from ragft_pipeline.publishing.fields import LIST, NUMBER, TEXT, kind_of

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilters

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_ORDERED = (">", "<", ">=", "<=")
_OPERATORS = {  # to ours; the operators of one line ask the same
    "==": "any", "in": "any", "any": "any", "contains": "any", "!=": "none", "nin": "none",
    "all": "all", "text_match": "like", "text_match_insensitive": "like in any case",
    "is_empty": "empty", **{operator: operator for operator in _ORDERED},
}  # fmt: skip
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """One condition.

    Attributes:
        key: of the metadata.
        operator: `any`, `none`, `all`, `like`, `like in any case`, `empty`, or an order.
        values: all of one type; empty for `empty`.
        kind: the type of the values: `text` or `number`.
        field: the type of what stands under the key; "" where no document says it.
    """

    key: str
    operator: str
    values: tuple[Any, ...]
    kind: str
    field: str

    @property
    def listed(self) -> bool:
        """Whether there are lists under the key."""
        return self.field.startswith(LIST)

    @property
    def comparable(self) -> bool:
        """Whether values of this type stand under the key at all."""
        return self.operator == "empty" or self.field.removeprefix(LIST) == self.kind


def read_filters(
    filters: MetadataFilters,
    fields: Mapping[str, str],
    one: Callable[[Asked], T],
    join: Callable[[str, list[T]], T],
) -> T:
    """Return filters as a store asks them.

    Args:
        fields: the types of what documents say, as Manifest has them.
        one: a condition in the store's terms.
        join: conditions under `and`, `or` or `not` (none of them).

    Raises RagftError for an operator, a key or a value that is none.
    """
    from llama_index.core.vector_stores.types import MetadataFilters as Nested

    parts = [
        read_filters(each, fields, one, join)
        if isinstance(each, Nested)
        else one(_asked(each, fields))
        for each in filters.filters
    ]
    return join(str(getattr(filters.condition, "value", filters.condition) or "and").lower(), parts)


def _asked(each: Any, fields: Mapping[str, str]) -> Asked:
    name = str(getattr(each.operator, "value", each.operator) or "==")
    key, value = str(each.key), each.value
    if not _NAME.fullmatch(key):
        raise RagftError(f"filter {key!r}: a key is letters, digits, _ and -")
    if name not in _OPERATORS:
        raise RagftError(f"filter {key!r}: the operator {name!r} is not to be had")
    operator = _OPERATORS[name]
    if operator == "empty":
        return Asked(key, operator, (), "", kind_of(key, fields))
    values = tuple(value) if isinstance(value, list) and operator in ("any", "none", "all") else ()
    values = values or (value,)
    kinds = {_kind(key, one) for one in values}
    kind = kinds.pop()
    if kinds or (kind != TEXT and "like" in operator):
        raise RagftError(f"filter {key!r}: {name} does not go with {value!r}")
    return Asked(key, operator, values, kind, kind_of(key, fields))


def _kind(key: str, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return NUMBER
    if isinstance(value, str) and "\x00" not in value:
        return TEXT
    raise RagftError(f"filter {key!r}: {value!r} is neither text nor number")


class Dialect(Protocol):
    """How a store's SQL names the metadata; keys are plain names."""

    def column(self, key: str, kind: str) -> str:
        """Return the one value under a key, as a type."""

    def has(self, key: str, value: Any) -> str:
        """Say whether a list under a key holds a value."""

    def bare(self, key: str, field: str) -> str:
        """Say whether there is nothing under a key of a type, or an empty text."""


def condition(filters: MetadataFilters, fields: Mapping[str, str], dialect: Dialect) -> str:
    """Return filters as a condition of SQL; see read_filters."""

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
    if asked.listed:
        raise RagftError(f"filter {asked.key!r}: it holds lists: ask by any, all, in or contains")
    if "like" in asked.operator:
        pattern = re.sub(r"([\\%_])", r"\\\1", str(asked.values[0]))
        name = "LIKE" if asked.operator == "like" else "ILIKE"
        return f"{column} {name} {literal(f'%{pattern}%')}"
    return f"{column} {asked.operator} {literal(asked.values[0])}"


def literal(value: Any) -> str:
    """Return a text or a number as a literal of SQL."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
