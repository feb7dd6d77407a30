"""Contents out of nothing: passages with vectors drawn at random, and their questions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ragft_pipeline.publishing.content import About, Content
from ragft_pipeline.publishing.extras import Extras
from ragft_pipeline.publishing.points import Passage
from ragft_pipeline.publishing.publication import Ask
from ragft_pipeline.retrieval.metadata_fields import fields_of, typed


def vectors_of(texts: Sequence[str], embedder: str, width: int) -> np.ndarray:
    """Return unit vectors that a text and an embedder alone decide."""
    rows = []
    for text in texts:
        seed = hashlib.sha256(f"{embedder}|{text}".encode()).digest()[:8]
        rows.append(np.random.default_rng(int.from_bytes(seed, "big")).standard_normal(width))
    found = np.array(rows, np.float32).reshape(len(rows), width)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def asker(embedder: str, width: int) -> Ask:
    """Return the query encoder of an embedder."""
    return lambda texts: vectors_of(texts, embedder, width)


def content(
    number: int = 40,
    embedder: str = "one",
    width: int = 16,
    edited: Sequence[int] = (),
    without: Sequence[int] = (),
    version: str = "v1",
    words: bool = False,
    said: Mapping[int, dict[str, Any]] | None = None,
) -> Content:
    """Return a bundle's content: `number` passages, of which some are edited or gone.

    `said` is what the document of a passage, by its number, says about itself.
    """
    about_documents = said or {}
    fields = fields_of(about_documents.values())
    passages = [
        Passage(
            f"node-{at:05d}{'-edited' if at in edited else ''}",
            f"doc-{at // 4}",
            text := f"passage {at} is about subject{at}{' as edited' if at in edited else ''}",
            text,
            {"path": f"doc-{at // 4}.md", "title": f"Document {at // 4}", "heading": f"Part {at}",
             **typed(about_documents.get(at, {}), fields)},
        )
        for at in range(number)
        if at not in without
    ]  # fmt: skip
    passages.sort(key=lambda passage: passage.node_id)
    texts = [passage.read for passage in passages]
    bundle = hashlib.sha256(repr((embedder, width, texts, said)).encode()).hexdigest()[:32]
    extras = Extras.of(texts, "auto", None) if words else None
    about = About(bundle, version, "hybrid", f"{embedder}-{width}", dense_weight=0.5)
    return Content(about, passages, vectors_of(texts, embedder, width), extras, fields)
