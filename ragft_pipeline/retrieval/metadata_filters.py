"""LlamaIndex's metadata filters, read alike for what is served and for every store.

A key holds one value, or a list of values; then `==`, `in`, `any` and `contains` ask whether one of
them is among those asked for, `all` whether all of these are there, `!=` and `nin` whether none is.
What a document does not say matches none of them.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.metadata_fields import LIST, NUMBER, TEXT, as_text, kind_of

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_ORDERED = {">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le}
_OPERATORS = {  # to ours; the operators of one line ask the same
    "==": "any", "in": "any", "any": "any", "contains": "any", "!=": "none", "nin": "none",
    "all": "all", "text_match": "like", "text_match_insensitive": "like in any case",
    "is_empty": "empty", **{order: order for order in _ORDERED},
}  # fmt: skip
T = TypeVar("T")


class FilterError(RagftError):
    """A filter that asks nothing: an operator, a key or a value that is none."""


class Filters(Protocol):
    """LlamaIndex's MetadataFilters, and what has its shape."""

    @property
    def filters(self) -> Sequence[Any]:
        """Conditions, with `key`, `operator` and `value`, and filters again."""

    @property
    def condition(self) -> Any:
        """How they are joined: `and`, `or` or `not`."""


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

    @cached_property
    def _wanted(self) -> frozenset[Any]:
        return frozenset(self.values)

    def holds(self, value: Any) -> bool:
        """Say whether what stands under the key, None for nothing, is as it is asked for."""
        found = value if isinstance(value, list) else [] if value is None else [value]
        if self.operator == "empty":
            return not found or found == [""]
        if not self.comparable or not found:
            return False
        if self.operator == "all":
            return self._wanted.issubset(found)
        if self.operator in ("any", "none"):
            return self._wanted.isdisjoint(found) == (self.operator == "none")
        one, wanted = found[0], self.values[0]
        if self.operator in _ORDERED:
            return bool(_ORDERED[self.operator](one, wanted))
        return wanted in one if self.operator == "like" else wanted.lower() in one.lower()


def read_filters(
    filters: Filters,
    fields: Mapping[str, str],
    one: Callable[[Asked], T],
    join: Callable[[str, list[T]], T],
) -> T:
    """Return filters as a store asks them.

    Args:
        fields: the types of what documents say, as Manifest has them.
        one: a condition in the store's terms.
        join: conditions under `and`, `or` or `not` (none of them).

    Raises FilterError for an operator, a key or a value that is none.
    """
    parts = [
        read_filters(each, fields, one, join)
        if hasattr(each, "filters")
        else one(_asked(each, fields))
        for each in filters.filters
    ]
    return join(str(getattr(filters.condition, "value", filters.condition) or "and").lower(), parts)


def _asked(each: Any, fields: Mapping[str, str]) -> Asked:
    name = str(getattr(each.operator, "value", each.operator) or "==")
    key, value = str(each.key), each.value
    if not _NAME.fullmatch(key):
        raise FilterError(f"filter {key!r}: a key is letters, digits, _ and -")
    if name not in _OPERATORS:
        raise FilterError(f"filter {key!r}: the operator {name!r} is not to be had")
    asked, field = _OPERATORS[name], kind_of(key, fields)
    if asked == "empty":
        return Asked(key, asked, (), "", field)
    several = asked in ("any", "none", "all")
    values = tuple(value) if isinstance(value, list) and several else ()
    values = tuple(as_text(one) if isinstance(one, bool) else one for one in values or (value,))
    kinds = {_kind(key, one) for one in values}
    kind = kinds.pop()
    if kinds or (kind != TEXT and "like" in asked):
        raise FilterError(f"filter {key!r}: {name} does not go with {value!r}")
    found = Asked(key, asked, values, kind, field)
    if found.listed and not several:
        raise FilterError(f"filter {key!r}: it holds lists: ask by any, all, in or contains")
    return found


def _kind(key: str, value: Any) -> str:
    if isinstance(value, int | float):
        return NUMBER
    if isinstance(value, str) and "\x00" not in value:
        return TEXT
    raise FilterError(f"filter {key!r}: {value!r} is neither text nor number")
