"""What a document says about itself: front matter, as it is kept with a version.

It is no part of a text: whoever edits it makes no node anew, so nothing is embedded or trained.
Values are text, numbers, truths and lists of these; keys are names that every store filters by.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

Value = str | int | float | bool
Metadata = dict[str, Value | list[Value]]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_KEYS, _LISTED, _LONGEST = 32, 64, 500  # keys, values of a list, characters of a value
_OWN = ("title", "path", "heading")  # what is known of a document, or of a passage, anyway
_LARGEST = 2**53


def kept_metadata(said: Mapping[str, Any]) -> tuple[Metadata, list[str]]:
    """Return what is kept of a document's front matter, and the keys of what is not.

    Kept are the first 32 keys, texts of at most 500 characters, lists of at most 64 values; dates
    are text. What is nested, too long or has a key of other characters than a-z, 0-9, _ and - is
    left out; an empty value is none.
    """
    kept: Metadata = {}
    left_out = []
    for key, value in said.items():
        if key in _OWN or value is None or value in ("", [], {}):
            continue
        found = _listed(value) if isinstance(value, list) else _scalar(value)
        if found is None or not _NAME.fullmatch(key) or len(kept) == _KEYS:
            left_out.append(key)
        else:
            kept[key] = found
    return kept, left_out


def left_out_line(keys: Iterable[str]) -> str:
    """Return what a person reads of the keys that are not kept; nothing where all are."""
    shown = [" ".join(key.split())[:40] for key in keys]
    named = ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
    return f"front matter not kept (nested, too long or an odd key): {named}" if shown else ""


def to_json(metadata: Mapping[str, Any]) -> str:
    """Return metadata as one text, equal for equal metadata; empty for none."""
    return json.dumps(metadata, ensure_ascii=False, sort_keys=True) if metadata else ""


def from_json(text: str | None) -> Metadata:
    """Return the metadata that `to_json` wrote."""
    found: Metadata = json.loads(text) if text else {}
    return found


def _listed(values: list[Any]) -> list[Value] | None:
    found = [_scalar(value) for value in values[: _LISTED + 1] if value is not None]
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) <= _LISTED else None


def _scalar(value: Any) -> Value | None:
    """Return a value as it is kept; None for what is not."""
    if isinstance(value, date):  # and times
        return value.isoformat()
    if isinstance(value, str):
        plain = "".join(c for c in " ".join(value.split()) if c.isprintable())
        return plain if len(plain) <= _LONGEST else None
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) < _LARGEST:
        return value
    return None
