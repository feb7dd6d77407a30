"""The parts of a bundle's index, and what each is made of and by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.corpus.nodes import with_context
from ragft_pipeline.digests import digest_of
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.evaluation.systems import ADAPTER, BASE
from ragft_pipeline.models.weights import folder_digest
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.evidence import headings_text
from ragft_pipeline.retrieval.terms import Terms, cached_terms
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.retrieval.token_rows import token_rows
from ragft_pipeline.retrieval.token_vectors import STORAGE_VERSION
from ragft_pipeline.retrieval.words import TERMS_VERSION
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.index_files import (
    BASE_VECTORS,
    READ_VECTORS,
    TERMS,
    TOKENS,
    VECTORS,
    Part,
    Segments,
)
from ragft_pipeline.serving.router_files import RoutingParts, asks_late_interaction
from ragft_pipeline.settings import PassageSettings, Settings
from ragft_pipeline.store import Workspace

ALONE, READ, HEADINGS = "alone", "read", "headings"
_TOKEN_ROWS = 8_192  # made at once


@dataclass(frozen=True)
class Index:
    """The parts of a bundle's index, and what the manifest says of them."""

    parts: list[Part]
    facts: dict[str, Any]


def index_of(
    configuration: Configuration,
    models: Models,
    settings: Settings,
    work: Workspace,
    routing: RoutingParts | None,
) -> Index:
    """Return what is searched beside the nodes.

    The base embedder's vectors come along where the retriever compares others: of the passages
    alone, which the untuned system and a ranker compare, and of passages as they are read,
    which a router compares.
    """
    kind = READ if settings.passages.context == "on" else ALONE
    own = ALONE if configuration.retriever in (BASE, ADAPTER) else kind
    encoder, adapter = retriever_parts(configuration, models, settings)
    base = Encoder.base(settings.embedder, settings.compute)
    vectors = [
        _vectors_part(VECTORS, encoder, own, work, adapter),
        _vectors_part(BASE_VECTORS, base, ALONE, work),
        _vectors_part(READ_VECTORS, base, kind, work),
    ]
    first: dict[str, Part] = {}
    names = {part.name: first.setdefault(part.made_of, part).name for part in vectors}
    parts = [*first.values(), _terms_part(settings.passages, work)]
    late = routing is not None and asks_late_interaction(routing, base)
    if late or "late_interaction" in configuration.parts:
        parts.append(_tokens_part(base, kind, settings.late_interaction.bits, work))
    facts = {
        "identities": _identities(encoder),
        "base_identities": _identities(base),
        BASE_VECTORS: names[BASE_VECTORS],
        READ_VECTORS: names[READ_VECTORS],
        "parts": {part.name: part.made_of for part in parts},
    }
    return Index(parts, facts)


def retriever_parts(
    configuration: Configuration, models: Models, settings: Settings
) -> tuple[Encoder, Path | None]:
    """Return the encoder of a configuration's retriever, and its adapter's folder if it has one."""
    if "tuned_embedder" in configuration.parts:
        assert models.tuned_embedder is not None
        encoder = Encoder.tuned(models.tuned_embedder, settings.embedder, settings.compute)
        return encoder, models.stacked_adapter
    return Encoder.base(settings.embedder, settings.compute), models.adapter


def _identities(encoder: Encoder) -> dict[str, str]:
    return {"query": encoder.identity("query"), "document": encoder.identity("document")}


def texts_of(nodes: pa.Table, kind: str) -> list[str]:
    """Return the texts of NODES rows: alone, or below their titles and headings."""
    rows = with_context(nodes) if kind == READ else nodes
    return [str(text) for text in rows.column("text").to_pylist()]


def _all_texts(segments: Segments, kind: str) -> list[str]:
    return [text for nodes in segments for text in texts_of(nodes, kind)]


def _vectors_part(
    name: str, encoder: Encoder, kind: str, work: Workspace, adapter: Path | None = None
) -> Part:
    """Return the vectors of texts of a kind, mapped by an adapter where one is given."""

    def make(segments: Segments) -> list[pa.Table]:
        texts = dict(enumerate(_all_texts(segments, kind)))
        named = {str(number): text for number, text in texts.items()}
        _, vectors = cached_vectors(work, encoder, named, "document")
        loaded = load_adapter(adapter, encoder.weights.digest) if adapter else None
        ends = np.cumsum([len(nodes) for nodes in segments])
        own = [np.ascontiguousarray(part) for part in np.split(vectors, ends[:-1])]
        if loaded is not None:
            own = [loaded.documents(part) for part in own]
        return [_vectors(nodes.column("node_id"), part) for nodes, part in zip(segments, own)]

    by = folder_digest(adapter) if adapter else ""
    return Part(name, digest_of(VECTORS, encoder.identity("document"), by, kind), make)


def _vectors(ids: pa.ChunkedArray, vectors: np.ndarray) -> pa.Table:
    width = vectors.shape[1]
    ends = pa.array(np.arange(len(ids) + 1, dtype=np.int32) * width)
    lists = pa.ListArray.from_arrays(ends, pa.array(vectors.reshape(-1), pa.float32()))
    return pa.table({"node_id": ids, "vector": lists})


def _tokens_part(encoder: Encoder, kind: str, bits: int, work: Workspace) -> Part:
    """Return the token vectors of texts of a kind, each distinct text of a segment once."""

    def make(segments: Segments) -> list[pa.Table]:
        rows = token_rows(work, encoder, _all_texts(segments, kind), bits)
        place = {text: at for at, text in enumerate(dict.fromkeys(_all_texts(segments, kind)))}
        return [
            rows.take([place[text] for text in dict.fromkeys(texts_of(nodes, kind))])
            for nodes in segments
        ]

    made_of = digest_of(TOKENS, STORAGE_VERSION, encoder.identity("document"), bits, kind)
    return Part(TOKENS, made_of, make, _TOKEN_ROWS)


def _terms_part(passages: PassageSettings, work: Workspace) -> Part:
    """Return the terms of passages alone, as they are read, and of their titles and headings."""

    def make(segments: Segments) -> list[pa.Table]:
        cut = partial(cached_terms, work, language=passages.language)
        terms = {kind: cut(_all_texts(segments, kind)) for kind in term_kinds(passages)}
        headings = [text for nodes in segments for text in headings_text(nodes)]
        terms[HEADINGS] = Terms.of(headings, terms[ALONE].languages)
        ends = np.cumsum([0, *map(len, segments)])
        return [
            _terms({kind: one.take(np.arange(start, end)) for kind, one in terms.items()})
            for start, end in pairwise(ends)
        ]

    return Part(TERMS, terms_made_of(passages), make, compression="zstd")


def term_kinds(passages: PassageSettings) -> list[str]:
    """Return the kinds of texts whose terms are stored."""
    return [ALONE, READ] if passages.context == "on" else [ALONE]


def terms_made_of(passages: PassageSettings) -> str:
    """Return what terms are made of."""
    return digest_of(TERMS, TERMS_VERSION, passages.language, term_kinds(passages))


def _terms(terms: dict[str, Terms]) -> pa.Table:
    languages = {f"{kind}_language": one.languages for kind, one in terms.items()}
    encoded = {
        name: pa.array(own, pa.string()).dictionary_encode() for name, own in languages.items()
    }
    return pa.table(encoded | {kind: one.column() for kind, one in terms.items()})
