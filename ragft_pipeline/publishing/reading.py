"""LlamaIndex over a published collection, by the right query encoder.

    from ragft_pipeline.publishing.reading import ChampionVectorStore
    store = ChampionVectorStore.open("qdrant", "http://localhost:6333", "handbook", embedding)
    index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)

`embedding` is any LlamaIndex embedding that gives the bundle's vectors: `ChampionEmbedding`, a
HuggingFaceEmbedding over what `ragft export` or `ragft push` wrote, an endpoint that `ragft verify`
passed. Another one is refused in one line, when the collection is opened and when it is switched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from ragft_pipeline.errors import RagftError
from ragft_pipeline.publishing.manifest import Manifest, State
from ragft_pipeline.publishing.opening import open_target
from ragft_pipeline.publishing.target import Found, Target
from ragft_pipeline.retrieval.encoder import normalise_rows
from ragft_pipeline.settings import TargetSettings

Follow = Callable[[Manifest], BaseEmbedding]
_WORDS = (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH)


class ChampionVectorStore(BasePydanticVectorStore):
    """The live generation of a collection, read only: for `VectorStoreIndex.from_vector_store`.

    A question is answered by one generation whole. After a switch within one embedder the next
    question is answered by the new generation. After a switch to another embedder the one before
    answers for as long as it is kept, unless `follow` gives the new one's embedding.

    Args:
        target: the collection.
        embedding: of the questions; it must be the one of the live generation.
        follow: gives the embedding of a generation that another embedder made, such as
            `lambda made: ChampionEmbedding(".ragft", bundle=made.bundle)`.
        look_seconds: how long a look at the pointer holds.

    Raises RagftError where nothing is published, or by another embedder.
    """

    stores_text: bool = True
    flat_metadata: bool = True
    _target: Target = PrivateAttr()
    _embeddings: dict[str, BaseEmbedding] = PrivateAttr()
    _own: str = PrivateAttr()
    _follow: Follow | None = PrivateAttr()
    _look_seconds: float = PrivateAttr()
    _looked: tuple[float, State] = PrivateAttr()

    def __init__(
        self,
        target: Target,
        embedding: BaseEmbedding,
        follow: Follow | None = None,
        look_seconds: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._target = target
        self._follow = follow
        self._look_seconds = look_seconds
        self._looked = (float("-inf"), State())
        live = self.state.require_live(target.collection)
        require_embedding(live, embedding)
        self._own = live.embedder
        self._embeddings = {live.embedder: embedding}

    @classmethod
    def open(
        cls, kind: str, where: str, collection: str, embedding: BaseEmbedding, **kwargs: Any
    ) -> ChampionVectorStore:
        """Open a collection by its address, as `targets` in ragft.yaml names it.

        Args:
            kwargs: `key_env`, the environment variable of its key, and what the class takes.
        """
        settings = TargetSettings.model_validate(
            {"kind": kind, "where": where, "collection": collection,
             "key_env": kwargs.pop("key_env", "")}
        )  # fmt: skip
        locks = Path(os.environ.get("TMPDIR", "/tmp")) / "ragft-locks"
        return cls(open_target(settings, locks), embedding, **kwargs)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex keeps it under."""
        return "ChampionVectorStore"

    @property
    def client(self) -> Target:
        """The collection."""
        return self._target

    @property
    def state(self) -> State:
        """What the collection holds, as last looked."""
        when, state = self._looked
        if time.monotonic() - when >= self._look_seconds:
            state = self._target.state()
            self._looked = (time.monotonic(), state)
        return state

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Answer a question from one generation."""
        live = self.state.require_live(self._target.collection)
        generation, vector = self._asked(live, query)
        top, filters = query.similarity_top_k, query.filters
        if query.mode in _WORDS:
            found = self._target.search_words(generation, query.query_str or "", top, filters)
        elif query.mode == VectorStoreQueryMode.HYBRID:
            text = query.query_str or ""
            found = self._target.search_hybrid(generation, text, vector, top, filters)
        elif query.mode == VectorStoreQueryMode.DEFAULT:
            found = self._target.search(generation, vector, top, filters)
        else:
            raise RagftError(f"a published collection does not know the mode {query.mode.value!r}")
        return VectorStoreQueryResult(
            nodes=[_node(hit) for hit in found],
            similarities=[hit.score for hit in found],
            ids=[hit.id for hit in found],
        )

    def _asked(self, live: Manifest, query: VectorStoreQuery) -> tuple[Manifest, np.ndarray]:
        """Return the generation that answers, and the question by that generation's embedder."""
        previous = self.state.previous
        if live.embedder == self._own:
            return live, _unit(query.query_embedding or [])
        if self._follow is not None and query.query_str:
            if live.embedder not in self._embeddings:
                embedding = self._follow(live)
                require_embedding(live, embedding)
                self._embeddings[live.embedder] = embedding
            embedding = self._embeddings[live.embedder]
            return live, _unit(embedding.get_query_embedding(query.query_str))
        if previous is not None and previous.embedder == self._own:
            return previous, _unit(query.query_embedding or [])
        raise RagftError(
            f"collection {self._target.collection!r}: {live.name} is of another embedder than this "
            f"reader's; open it with the embedder of bundle {live.bundle[:12]}"
        )

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Refuse: a collection is written by `ragft publish` alone."""
        raise RagftError("a published collection is read only: `ragft publish` writes it")

    def delete(self, ref_doc_id: str, **kwargs: Any) -> None:
        """Refuse, as `add` does."""
        raise RagftError("a published collection is read only: `ragft publish` writes it")


def require_embedding(manifest: Manifest, embedding: BaseEmbedding) -> None:
    """Raise RagftError unless an embedding gives the vectors of a generation's questions."""
    vectors = [embedding.get_query_embedding(probe.text) for probe in manifest.probes]
    manifest.require_embedder(np.array(vectors, np.float32), embedding.model_name or "this reader")


def _unit(vector: Sequence[float]) -> np.ndarray:
    found: np.ndarray = normalise_rows(np.array([vector], np.float32))[0]
    return found


def _node(hit: Found) -> BaseNode:
    return metadata_dict_to_node(hit.metadata)
