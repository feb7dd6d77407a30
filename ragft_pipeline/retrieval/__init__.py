"""Retrieval: the one encoder, BM25, fusion, the one top-k search and cross-encoder reranking."""
