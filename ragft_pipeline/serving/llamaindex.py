"""LlamaIndex objects of what is served: a retriever, a query engine, and the parts alone.

    from ragft_pipeline.serving.llamaindex import ChampionRetriever, query_engine
    nodes = ChampionRetriever(".ragft").retrieve("how is the pump cleaned?")
    answer = query_engine(".ragft", llm=llm).query("how is the pump cleaned?")

Each follows the pointer: after a promotion or a roll-back the next question is answered by the new
bundle. The embedding alone does not: vectors of two models do not compare, so it stays with the
bundle that it was made with, as the index of its vectors does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import LLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores.types import MetadataFilters

from ragft_pipeline.errors import RagftError
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.searcher import Hit, Searcher
from ragft_pipeline.settings import ComputeSettings
from ragft_pipeline.store import ArtifactStore


def champion(store: str | Path, compute: ComputeSettings | None = None) -> Champion:
    """Return what a store serves; the objects below share it where they are given the same one."""
    return Champion(ArtifactStore(store), compute)


class ChampionRetriever(BaseRetriever):
    """Retrieves with the whole served system: dense, BM25, adapter and second stage as promoted.

    Args:
        store: the store's folder, or what `champion` returns.
        similarity_top_k: passages to return, at most 100.
        filters: on the nodes' metadata: path, title, heading, and what documents say.
    """

    def __init__(
        self,
        store: str | Path | Champion,
        similarity_top_k: int = 10,
        filters: MetadataFilters | None = None,
        **kwargs: Any,
    ) -> None:
        self._champion = store if isinstance(store, Champion) else champion(store)
        self._top, self._filters = similarity_top_k, filters
        super().__init__(**kwargs)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._champion.searcher.search(query_bundle.query_str, self._top, self._filters)
        return [NodeWithScore(node=_node(hit), score=hit.score) for hit in hits]


class ChampionEmbedding(BaseEmbedding):
    """A bundle's dense retriever alone: questions and texts as it compares them.

    Args:
        store: the store's folder, or what `champion` returns.
        bundle: digest of the bundle whose vectors an index holds; by default the one in force.
    """

    bundle: str = ""
    _searcher: Searcher = PrivateAttr()

    def __init__(self, store: str | Path | Champion, bundle: str = "", **kwargs: Any) -> None:
        live = store if isinstance(store, Champion) else champion(store)
        searcher = live.searcher_of(bundle) if bundle else live.searcher
        name = f"{searcher.bundle.manifest['base_model']}, {searcher.configuration.name}"
        kwargs = {"model_name": name, **kwargs, "bundle": searcher.bundle.digest}
        super().__init__(**kwargs)
        self._searcher = searcher

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex keeps it under."""
        return "ChampionEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return [float(value) for value in self._searcher.query_vectors([query])[0]]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self._searcher.document_vectors(texts).tolist()
        return rows

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


class ChampionReranker(BaseNodePostprocessor):
    """The served second stage alone: reorders another retriever's nodes by its scores.

    Raises RagftError where the champion has no second stage.
    """

    top_n: int = 10
    _champion: Champion = PrivateAttr()

    def __init__(self, store: str | Path | Champion, top_n: int = 10, **kwargs: Any) -> None:
        super().__init__(top_n=top_n, **kwargs)
        self._champion = store if isinstance(store, Champion) else champion(store)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex keeps it under."""
        return "ChampionReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None or not nodes:
            return nodes[: self.top_n]
        scores = self._champion.searcher.second_scores(
            query_bundle.query_str, [node.node.get_content() for node in nodes]
        )
        if scores is None:
            raise RagftError("the champion has no second stage to rerank with")
        ordered = sorted(zip(scores.tolist(), range(len(nodes))), key=lambda pair: -pair[0])
        return [NodeWithScore(node=nodes[i].node, score=s) for s, i in ordered[: self.top_n]]


def query_engine(
    store: str | Path | Champion, llm: LLM | None = None, similarity_top_k: int = 10, **kwargs: Any
) -> RetrieverQueryEngine:
    """Return a query engine over the served system; `kwargs` go to `from_args`."""
    return RetrieverQueryEngine.from_args(
        ChampionRetriever(store, similarity_top_k), llm=llm, **kwargs
    )


def _node(hit: Hit) -> TextNode:
    about = {"title": hit.title, "heading": hit.heading, "path": hit.path}
    return TextNode(id_=hit.node_id, text=hit.text, metadata={**about, **hit.metadata})
