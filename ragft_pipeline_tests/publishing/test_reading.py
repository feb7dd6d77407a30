"""What an application does with a published collection: it asks by the right embedder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from ragft_pipeline.errors import RagftError
from ragft_pipeline.publishing.bundles import publish_bundle
from ragft_pipeline.publishing.manifest import Manifest
from ragft_pipeline.publishing.reading import ChampionVectorStore
from ragft_pipeline.serving.bundle import Bundle
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.llamaindex import ChampionEmbedding
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import ComputeSettings, EmbedderSettings, Settings, TargetSettings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.publishing.stores import KINDS, target_settings
from ragft_pipeline_tests.publishing.tiny_embedder import tiny_embedder
from ragft_pipeline_tests.serving.conftest import BREAD, PUMP, make_bundle, serve

QUESTION = "how is the strainer of the pump cleaned?"
Bundles = tuple[ArtifactStore, Bundle, Bundle]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """A store with a champion, and a bundle of another embedder of the same width."""
    folder = tmp_path_factory.mktemp("reading")
    store = ArtifactStore(folder / "store")
    made = []
    for pooling in ("mean", "cls"):
        model = tiny_embedder(folder / pooling, pooling)
        settings = Settings(embedder=EmbedderSettings(model=str(model)))
        made.append(
            make_bundle(
                store,
                "manual",
                [*PUMP, *BREAD],
                Configuration("base", 0.6),
                settings=settings,
                said='{"product": "P20", "tags": ["pump", "seal"]}',
            )
        )
    serve(store, made[0])
    return store, made[0], made[1]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> TargetSettings:
    kind = request.param
    address = request.getfixturevalue("database") if kind == "pgvector" else ""
    return target_settings(kind, tmp_path, address, f"manual{abs(hash(tmp_path)) % 10**8}", "all")


def read(place: TargetSettings, embedding: Any, **options: Any) -> ChampionVectorStore:
    return ChampionVectorStore.open(
        place.kind, place.where, place.collection, embedding, look_seconds=0, **options
    )


def test_llamaindex_answers_as_the_bundle_does(
    bundles: Bundles, place: TargetSettings, tmp_path: Path
) -> None:
    store, bundle, _ = bundles
    publish_bundle(place, bundle, ComputeSettings(), tmp_path / "locks")

    embedding = ChampionEmbedding(store.root)
    collection = read(place, embedding)
    index = VectorStoreIndex.from_vector_store(collection, embed_model=embedding)
    found = index.as_retriever(similarity_top_k=3).retrieve(QUESTION)

    searcher = Searcher(bundle)
    vector = searcher.query_vectors([QUESTION])
    scores = np.sort(vector @ searcher.document_vectors([*PUMP, *BREAD]).T)[0][::-1][:3]
    assert [hit.score for hit in found] == pytest.approx(scores.tolist(), abs=1e-4)
    assert found[0].node.metadata["path"] == "manual.md"
    assert found[0].node.get_content() in [*PUMP, *BREAD]

    words = {"vector_store_query_mode": "hybrid"}
    if place.kind == "lancedb":
        with pytest.raises(RagftError, match="dense vectors alone"):
            index.as_retriever(**words).retrieve(QUESTION)
    else:
        mixed = index.as_retriever(similarity_top_k=5, **words).retrieve(QUESTION)
        own = searcher.search(QUESTION, 5)
        assert [hit.score for hit in mixed] == pytest.approx([h.score for h in own], abs=1e-3)
        assert [hit.node.node_id for hit in mixed] == [hit.node_id for hit in own]
    with pytest.raises(RagftError, match="read only"):
        collection.add([])
    collection.client.close()


def test_filters_of_the_metadata_hold(
    bundles: Bundles, place: TargetSettings, tmp_path: Path
) -> None:
    store, bundle, _ = bundles
    publish_bundle(place, bundle, ComputeSettings(), tmp_path / "locks")
    embedding = ChampionEmbedding(store.root)
    collection = read(place, embedding)
    index = VectorStoreIndex.from_vector_store(collection, embed_model=embedding)

    def number(*filters: Any, **options: Any) -> int:
        chosen = MetadataFilters(filters=list(filters), **options)
        return len(index.as_retriever(similarity_top_k=50, filters=chosen).retrieve(QUESTION))

    here = MetadataFilter(key="path", value="manual.md")
    gone = MetadataFilter(key="path", value="it's gone.md")
    listed = MetadataFilter(key="title", value=["manual", "other"], operator=FilterOperator.IN)
    assert (number(here), number(gone), number(listed)) == (12, 0, 12)
    assert (number(here, gone), number(here, gone, condition="or")) == (0, 12)
    assert number(MetadataFilters(filters=[here, gone], condition="or"), listed) == 12
    own = MetadataFilter(key="product", value="P20")
    tagged = MetadataFilter(key="tags", value="seal", operator=FilterOperator.CONTAINS)
    assert (number(own, tagged), number(own, tagged, condition="not")) == (12, 0)
    found = index.as_retriever(similarity_top_k=1).retrieve(QUESTION)[0].node.metadata
    assert (found["product"], found["tags"]) == ("P20", ["pump", "seal"])
    collection.client.close()


def test_another_embedder_is_refused_in_one_line(
    bundles: Bundles, place: TargetSettings, tmp_path: Path
) -> None:
    store, bundle, other = bundles
    publish_bundle(place, bundle, ComputeSettings(), tmp_path / "locks")
    with pytest.raises(RagftError, match=r"of another embedder than .*: cosine") as refused:
        read(place, ChampionEmbedding(store.root, bundle=other.digest))
    assert "\n" not in str(refused.value)


def test_a_reader_follows_a_switch_or_stays_with_its_generation(
    bundles: Bundles, tmp_path: Path
) -> None:
    store, bundle, other = bundles
    place = target_settings("lancedb", tmp_path, "", "manual")
    locks = tmp_path / "locks"
    publish_bundle(place, bundle, ComputeSettings(), locks)

    def embedding_of(made: Manifest) -> ChampionEmbedding:
        return ChampionEmbedding(store.root, bundle=made.bundle)

    embedding = ChampionEmbedding(store.root)
    staying, following = read(place, embedding), read(place, embedding, follow=embedding_of)

    def scores(collection: ChampionVectorStore) -> list[float]:
        index = VectorStoreIndex.from_vector_store(collection, embed_model=embedding)
        return [hit.score for hit in index.as_retriever(similarity_top_k=5).retrieve(QUESTION)]

    before = scores(staying)
    publish_bundle(place, other, ComputeSettings(), locks)
    searcher = Searcher(other)
    new = np.sort(
        searcher.query_vectors([QUESTION]) @ searcher.document_vectors([*PUMP, *BREAD]).T
    )[0][::-1][:5]

    assert scores(staying) == pytest.approx(before)
    assert scores(following) == pytest.approx(new.tolist(), abs=1e-4)
    publish_bundle(place, make_third(store, other), ComputeSettings(), locks)
    with pytest.raises(RagftError, match="is of another embedder than this reader's"):
        scores(staying)


def make_third(store: ArtifactStore, other: Bundle) -> Bundle:
    """Return a bundle of the other embedder over fewer passages."""
    settings = other.settings(ComputeSettings())
    return make_bundle(store, "manual", PUMP, Configuration("base", 0.6), settings=settings)


def test_llamaindex_own_stores_read_what_was_written(bundles: Bundles, tmp_path: Path) -> None:
    from llama_index.vector_stores.lancedb import LanceDBVectorStore
    from llama_index.vector_stores.qdrant import QdrantVectorStore

    store, bundle, _ = bundles
    embedding = ChampionEmbedding(store.root)
    wanted = [hit.node_id for hit in Searcher(bundle).search_alone(QUESTION, 3)["base"]]
    for kind in ("lancedb", "qdrant"):
        place = target_settings(kind, tmp_path, "", "manual")
        publish_bundle(place, bundle, ComputeSettings(), tmp_path / "locks")
        ours = read(place, embedding)
        target: Any = ours.client
        theirs = (
            LanceDBVectorStore.from_table(target.table(ours.state.live))
            if kind == "lancedb"
            else QdrantVectorStore("manual", client=target.client)
        )
        index = VectorStoreIndex.from_vector_store(theirs, embed_model=embedding)
        found = index.as_retriever(similarity_top_k=3).retrieve(QUESTION)
        assert [hit.node.node_id for hit in found] == wanted
        target.close()
