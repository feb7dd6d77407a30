"""Routing: the tools of a corpus, and the tuned router that picks among them."""
