"""Dagster assets that tune the retrieval parts of a RAG system, recomputing what is stale."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragft_pipeline.defs.component import TunedRetriever
    from ragft_pipeline.defs.corpus import Corpus

__version__ = "0.1.0"
__all__ = ["Corpus", "TunedRetriever"]

_PUBLIC = {"Corpus": "defs.corpus", "TunedRetriever": "defs.component"}


def __getattr__(name: str) -> Any:
    """Import what is public when it is asked for: the package itself stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
