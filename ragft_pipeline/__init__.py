"""Dagster assets that tune the retrieval parts of a RAG system, recomputing what is stale."""

__version__ = "0.1.0"
