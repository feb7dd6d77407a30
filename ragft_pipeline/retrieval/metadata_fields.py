"""What documents say about themselves as columns of a store: each key of one type.

Of a key that is a number here and a text there, all values are text; where one document has a list,
all have. True and false are the texts `true` and `false`: LlamaIndex's filters know no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TEXT, NUMBER = "text", "number"
LIST = "list of "
KNOWN = {"path": TEXT, "title": TEXT, "heading": TEXT}  # of every passage
_TAKEN = frozenset(  # by LlamaIndex and by us, in the same place
    (*KNOWN, "_node_content", "_node_type", "document_id", "doc_id", "ref_doc_id", "ragft_digest")
)


def fields_of(documents: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the type of each key: `text` or `number`, or `list of` one of them.

    Keys under which a store keeps something else are left out.
    """
    kinds: dict[str, set[str]] = {}
    listed = set()
    for said in documents:
        for key, value in said.items():
            if isinstance(value, list):
                listed.add(key)
            of_key = kinds.setdefault(key, set())
            of_key |= {_kind(one) for one in _several(value)}
    return {
        key: (LIST if key in listed else "") + (found.pop() if len(found) == 1 else TEXT)
        for key, found in sorted(kinds.items())
        if key not in _TAKEN
    }


def typed(said: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """Return a document's values as their fields' types."""
    found: dict[str, Any] = {}
    for key in sorted(said.keys() & fields.keys()):
        value, kind = said[key], fields[key]
        number = kind.endswith(NUMBER)
        values = [one if number else as_text(one) for one in _several(value)]
        found[key] = values if kind.startswith(LIST) else values[0]
    return found


def kind_of(key: str, fields: Mapping[str, str]) -> str:
    """Return the type of what may be filtered by; "" for what no document says."""
    return KNOWN.get(key) or fields.get(key, "")


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _kind(value: Any) -> str:
    return NUMBER if isinstance(value, int | float) and not isinstance(value, bool) else TEXT


def as_text(value: Any) -> str:
    """Return a value as text; `true` and `false` for truths."""
    return str(value).lower() if isinstance(value, bool) else str(value)
