"""Tuning: the teacher, the adapter, the embedder and the reranker."""
