"""Serving: the promoted bundle as a searcher, LlamaIndex objects and a small HTTP service."""
