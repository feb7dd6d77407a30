"""The dense retrievers that are measured: embedders, tuned or not, and maps of their vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ragft_pipeline.evaluation.pools import PLAIN, READ
from ragft_pipeline.evaluation.systems import ADAPTER, BASE, CONTEXT
from ragft_pipeline.retrieval.adapters import Adapter, load_adapter
from ragft_pipeline.retrieval.encoder import Encoder, Kind
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

Texts = Mapping[str, str]


@dataclass(frozen=True)
class Models:
    """The folders of the models that are measured; a part that is None is left out."""

    tuned_embedder: Path | None = None
    adapter: Path | None = None
    stacked_adapter: Path | None = None
    reranker: Path | None = None
    late_interaction: Path | None = None


class Source(Protocol):
    """Where a retriever's vectors come from."""

    def encode(self, questions: Sequence[str]) -> np.ndarray:
        """Return the vectors of questions, float32 (questions, width); does the work each time."""

    def known(self, texts: Texts, kind: Kind) -> np.ndarray:
        """Return the vectors of texts, by id, encoded once for ever."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """An embedder, and the rows of its vectors."""

    encoder: Encoder
    work: Workspace

    def encode(self, questions: Sequence[str]) -> np.ndarray:
        """Return the vectors of questions, float32 (questions, width); does the work each time."""
        return self.encoder.encode(questions, "query")

    def known(self, texts: Texts, kind: Kind) -> np.ndarray:
        """Return the vectors of texts, by id, encoded once for ever."""
        return cached_vectors(self.work, self.encoder, dict(texts), kind)[1]


@dataclass(frozen=True)
class Retriever:
    """A dense retriever.

    Attributes:
        kind: of the texts that BM25 beside it counts.
        adapter: what maps the vectors of the source.
        vectors_of: the kind of the texts that its vectors are of; "": the same.
    """

    name: str
    kind: str
    source: Source
    adapter: Adapter | None = None
    vectors_of: str = ""

    def encode(self, questions: Sequence[str]) -> np.ndarray:
        """Return the vectors of questions, float32 (questions, width)."""
        return self._asked(self.source.encode(questions))

    def known(self, questions: Texts) -> np.ndarray:
        """Return the vectors of questions, by id, float32 (questions, width)."""
        return self._asked(self.source.known(questions, "query"))

    def _asked(self, vectors: np.ndarray) -> np.ndarray:
        return vectors if self.adapter is None else self.adapter.queries(vectors)


def document_vectors(
    retrievers: Sequence[Retriever],
    texts: Mapping[str, Texts],
    room: Callable[[tuple[int, ...]], np.ndarray],
    known: dict[tuple[Source, str], np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Return the vectors of passages by each retriever, float32 (passages, width).

    Args:
        texts: of the passages by kind, by the same ids.
        room: returns an array to fill.
        known: the vectors of sources by kind, as far as they are at hand; takes those that are not.
    """
    known = {} if known is None else known
    found = {}
    for own in retrievers:
        key = own.source, own.vectors_of or own.kind
        if key not in known:
            known[key] = own.source.known(texts[key[1]], "document")
        vectors = known[key]
        if own.adapter is not None:
            vectors = own.adapter.documents(vectors, room(vectors.shape))
        found[own.name] = vectors
    return found


def retrievers_of(models: Models, settings: Settings, work: Workspace) -> list[Retriever]:
    """Return the base embedder over the passages alone, and what reads them as models do.

    The adapter maps vectors of passages alone: what stands above them, its teacher read.
    Whether that is below their titles and headings is `passages.context`, decided.
    """
    read = READ if settings.passages.context == "on" else PLAIN
    base = Encoded(Encoder.base(settings.embedder, settings.compute), work)

    def adapted(name: str, folder: Path, source: Encoded, vectors_of: str) -> Retriever:
        adapter = load_adapter(folder, source.encoder.weights.digest).doubled()
        return Retriever(name, read, source, adapter, vectors_of)

    found = [Retriever(BASE, PLAIN, base)]
    if read == READ:
        found.append(Retriever(CONTEXT, read, base))
    if models.adapter is not None:
        found.append(adapted(ADAPTER, models.adapter, base, PLAIN))
    if models.tuned_embedder is not None:
        encoder = Encoder.tuned(models.tuned_embedder, settings.embedder, settings.compute)
        tuned = Encoded(encoder, work)
        found.append(Retriever("tuned_embedder", read, tuned))
        if models.stacked_adapter is not None:
            stacked = models.stacked_adapter
            found.append(adapted("adapter(tuned_embedder)", stacked, tuned, read))
    return found
