"""The names of systems, read: what a person calls one, and which simpler one it builds on.

In code a name says how a system is made: `hybrid(X)` is X fused with BM25, `adapter(X)` is X with
maps over its vectors, `A + stage` is A with a second stage's scores mixed in. Names that are not
made like this are simple ones, over the base embedder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

BASE = "base"
CANDIDATE = "candidate"  # on each fold what the other folds' questions chose
_HYBRID = "hybrid"
_MADE = re.compile(r"(\w+)\((.+)\)")
_SPOKEN = {
    "bm25": "BM25",
    BASE: "base embedder",
    "hybrid(base)": "untuned hybrid",
    "context": "base embedder below headings",
    "hybrid(context)": "untuned hybrid below headings",
    "adapter": "base embedder + maps",
    CANDIDATE: "what the questions choose",
}


def spoken(system: str) -> str:
    """Return what a person calls a system: `tuned embedder + maps, with BM25`."""
    first, *stages = system.split(" + ")
    made = _MADE.fullmatch(first)
    if first not in _SPOKEN and made and made[1] == _HYBRID:
        first, stages = made[2], ["BM25", *stages]
    beside = " and ".join(filter(None, (", ".join(stages[:-1]), *stages[-1:])))
    return _retriever(first) + (f", with {beside}" if beside else "")


def _retriever(name: str) -> str:
    if name in _SPOKEN:
        return _SPOKEN[name]
    made = _MADE.fullmatch(name)
    if made is None:
        return name.replace("_", " ")
    return f"{_retriever(made[2])} + {'maps' if made[1] == 'adapter' else made[1]}"


def path_below(system: str) -> Iterator[str]:
    """Yield the systems that one builds on, a part less each, down to the base embedder."""
    while (system := _below(system)) != BASE:
        yield system
    yield BASE


def _below(system: str) -> str:
    first, plus, _ = system.rpartition(" + ")
    if plus:
        return first
    made = _MADE.fullmatch(system)
    if made is None or made[2] == BASE:
        return BASE
    return f"{_HYBRID}({_below(made[2])})" if made[1] == _HYBRID else made[2]
