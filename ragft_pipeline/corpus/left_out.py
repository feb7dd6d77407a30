"""What was not read, or read with a doubt, counted by reason for people."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from ragft_pipeline.corpus.listing import EXCLUDED

_NAMED = 5  # files of one reason that the terminal names each


def is_excluded(reason: str) -> bool:
    """Say whether what has this reason was meant to be left out."""
    return reason.startswith(EXCLUDED)


def why_excluded(reason: str) -> str:
    """Return by what it was left out: `hidden`, `a cache`, `corpus.exclude`."""
    return reason.removeprefix(f"{EXCLUDED}: ")


def counted(reasons: Sequence[str]) -> str:
    """Return reasons with their counts, the most frequent first: `an image ×3, empty ×1`."""
    groups = _groups(reasons)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return ", ".join(f"{kind} ×{len(members)}" for kind, members in ordered)


def said(verb: str, rows: Sequence[Mapping[str, str]], column: str) -> Iterator[str]:
    """Yield what the terminal says of files: each with its reason, of many alike the first ones."""
    for members in _groups([row[column] for row in rows]).values():
        few = members if len(members) <= _NAMED else members[: _NAMED - 2]
        for place in few:
            yield f"{verb} {rows[place]['path']}: {rows[place][column]}"
        if len(members) > len(few):
            yield f"{verb} {len(members) - len(few)} more: {_kind(rows[members[0]][column])}"


def _groups(reasons: Sequence[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for place, reason in enumerate(reasons):
        groups[_kind(reason)].append(place)
    return dict(groups)


def _kind(reason: str) -> str:
    """Return a reason without its numbers and its advice, so that alike ones are counted as one."""
    kind = re.split(r": |; | and is none of | \(or ", reason, maxsplit=1)[0]
    if kind == EXCLUDED:
        kind = reason
    kind = re.sub(
        r"\d[\d.,]*(?:% of| of \d+)", lambda m: "some of" if "%" in m[0] else "some", kind
    )
    return re.sub(r"\d[\d.,]*%?", "n", kind).removesuffix(f" ({kind})")
