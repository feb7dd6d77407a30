"""The README's LlamaIndex lines, on a finished project."""

from __future__ import annotations

from llama_index.core import VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import TextNode

from ragft_pipeline.serving.llamaindex import (
    ChampionEmbedding,
    ChampionRetriever,
    champion,
    query_engine,
)
from ragft_pipeline_tests.conftest import Project

QUESTION = "how is the strainer cleaned?"


def test_the_retriever_gives_what_the_searcher_finds(finished: Project) -> None:
    live = champion(finished.store.root)
    nodes = ChampionRetriever(live, similarity_top_k=4).retrieve(QUESTION)
    hits = live.searcher.search(QUESTION, 4)
    assert [node.node_id for node in nodes] == [hit.node_id for hit in hits]
    assert [node.score for node in nodes] == [hit.score for hit in hits]
    assert nodes[0].metadata["path"]


def test_the_query_engine_answers_from_the_retrieved_passages(finished: Project) -> None:
    engine = query_engine(str(finished.store.root), llm=MockLLM(), similarity_top_k=2)
    answer = engine.query(QUESTION)
    assert len(answer.source_nodes) == 2
    assert str(answer)


def test_the_embedding_alone_ranks_as_the_served_dense_part_does(finished: Project) -> None:
    live = champion(finished.store.root)
    hits = live.searcher.search(QUESTION, 8)
    nodes = [TextNode(id_=hit.node_id, text=hit.text) for hit in hits]
    index = VectorStoreIndex(nodes, embed_model=ChampionEmbedding(live))
    found = index.as_retriever(similarity_top_k=8).retrieve(QUESTION)
    expected = sorted(hits, key=lambda hit: -hit.parts["dense"])
    assert [node.node_id for node in found] == [hit.node_id for hit in expected]
