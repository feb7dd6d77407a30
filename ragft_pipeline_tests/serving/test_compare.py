"""The untuned hybrid beside what is served, from the same bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from ragft_pipeline.errors import RagftError
from ragft_pipeline.serving.bundle import Bundle
from ragft_pipeline.serving.index_files import BASE_VECTORS
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.serving.conftest import (
    ADAPTED,
    PUMP,
    QUESTION,
    Bundles,
    make_bundle,
    noisy_adapter,
    serve,
    service,
)


def test_the_untuned_hybrid_compared_with_itself_is_the_same(client: TestClient) -> None:
    found = client.get("/compare", params={"question": QUESTION, "top": 4}).json()
    assert found["base"] == found["champion"]
    assert [hit["other_rank"] for hit in found["champion"]] == [1, 2, 3, 4]
    assert found["base_weight"] == 0.5


@pytest.fixture
def adapted(tmp_path: Path) -> Bundle:
    return make_bundle(
        ArtifactStore(tmp_path / "store"), "pump", PUMP, ADAPTED, noisy_adapter(tmp_path)
    )


def test_a_tuned_bundle_brings_the_base_vectors_along(
    adapted: Bundle, two_bundles: Bundles
) -> None:
    plain = two_bundles[1]
    assert not (plain.folder / BASE_VECTORS).exists()
    assert (adapted.folder / BASE_VECTORS).is_dir()
    untuned, tuned = Searcher(plain), Searcher(adapted)
    assert tuned.search_base(QUESTION) == untuned.search(QUESTION)
    assert tuned.search(QUESTION) != untuned.search(QUESTION)
    del adapted.manifest["base_vectors"]
    with pytest.raises(RagftError, match="of before bundles had"):
        Searcher(adapted).search_base(QUESTION)


def test_the_ranks_of_both_sides_fit_together(adapted: Bundle) -> None:
    store = ArtifactStore(adapted.folder.parents[1])
    serve(store, adapted)
    with service(store) as client:
        found = client.get("/compare", params={"question": QUESTION, "top": 2}).json()
        whole = client.get("/compare", params={"question": QUESTION}).json()
    for side, other in (("base", "champion"), ("champion", "base")):
        ranks = {hit["node_id"]: hit["rank"] for hit in whole[other]}
        assert len(found[side]) == 2
        assert all(hit["other_rank"] == ranks[hit["node_id"]] for hit in found[side])
    assert whole["base"][0]["text"] == PUMP[0]
