"""LlamaIndex's metadata filters as Qdrant asks them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.metadata_fields import NUMBER
from ragft_pipeline.retrieval.metadata_filters import Asked, read_filters

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilters

_ORDERS = {">": "gt", "<": "lt", ">=": "gte", "<=": "lte"}


def qdrant_filter(filters: MetadataFilters | None, fields: Mapping[str, str]) -> Any:
    """Return a qdrant_client Filter, None for no condition; see read_filters.

    Texts are put in order as dates alone.
    """
    if filters is None or not filters.filters:
        return None
    return read_filters(filters, fields, _condition, _joined)


def _joined(kind: str, parts: list[Any]) -> Any:
    from qdrant_client.models import Filter

    return Filter(**{{"and": "must", "or": "should", "not": "must_not"}[kind]: parts or None})


def _condition(asked: Asked) -> Any:
    from qdrant_client import models

    there = models.IsEmptyCondition(is_empty=models.PayloadField(key=asked.key))
    if asked.operator == "empty":
        blank = models.FieldCondition(key=asked.key, match=models.MatchValue(value=""))
        return models.Filter(should=[there, blank])
    if asked.operator in _ORDERS:
        return models.FieldCondition(key=asked.key, range=_range(asked))
    if asked.operator == "like":
        return models.FieldCondition(key=asked.key, match=models.MatchText(text=asked.values[0]))
    if asked.operator not in ("any", "none", "all"):
        raise RagftError(f"filter {asked.key!r}: Qdrant does not compare {asked.operator}")
    each = [_equal(asked, value) for value in asked.values]
    if asked.operator == "any":
        return models.Filter(should=each)
    return (
        models.Filter(must_not=[*each, there])
        if asked.operator == "none"
        else models.Filter(must=each)
    )


def _equal(asked: Asked, value: Any) -> Any:
    """Return the condition that a value is under a key; of a number in any of its forms."""
    from qdrant_client import models

    if asked.kind == NUMBER:
        return models.FieldCondition(key=asked.key, range=models.Range(gte=value, lte=value))
    return models.FieldCondition(key=asked.key, match=models.MatchValue(value=value))


def _range(asked: Asked) -> Any:
    from qdrant_client import models

    value = asked.values[0]
    order = _ORDERS[asked.operator]
    if asked.kind == NUMBER:
        return models.Range(**{order: value})
    try:
        return models.DatetimeRange(**{order: datetime.fromisoformat(value)})
    except ValueError:
        line = f"filter {asked.key!r}: {value!r} is no date, and Qdrant orders no other texts"
        raise RagftError(line) from None
