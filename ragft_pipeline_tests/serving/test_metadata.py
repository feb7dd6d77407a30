"""What documents say about themselves, in answers over HTTP and in LlamaIndex, and filtered by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from ragft_pipeline import schemas
from ragft_pipeline.cli import main
from ragft_pipeline.corpus.document_metadata import to_json
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.retrieval.evidence import FIRST_STAGE, LATE_INTERACTION
from ragft_pipeline.retrieval.ranker import Ranker
from ragft_pipeline.serving.bundle import Bundle, BundleStore
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.llamaindex import ChampionRetriever
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline_tests.serving.conftest import BREAD, PUMP, QUESTION, serve, service
from ragft_pipeline_tests.serving.test_service import wait_for

P20 = {"product": "P20", "tags": ["pump", "seal"], "year": 2024, "draft": True}
BOTH = "The house is locked at ten."  # it stands in two documents
SAID: dict[str, dict[str, Any]] = {"pump": P20, "bread": {"product": "oven"}, "plain": {}}
DOCUMENTS = {"pump": [*PUMP[:3], BOTH], "bread": [*BREAD[:3], BOTH], "plain": [PUMP[3]]}
RANKED = Configuration(
    "base", 0.5, "ranker", Ranker.prior((*FIRST_STAGE, LATE_INTERACTION)).weights
)


def build(store: ArtifactStore, said: dict[str, dict[str, Any]]) -> Bundle:
    """Build a bundle of documents, each under its heading."""
    rows = [
        {
            "node_id": f"node-{text}", "doc_key": name, "cluster": name, "split": "train",
            "title": name, "heading_path": [f"About {name}"], "text": text, "start_char": place,
            "end_char": place + len(text), "tokens": 9,
        }
        for name, texts in DOCUMENTS.items()
        for place, text in enumerate(texts)
    ]  # fmt: skip
    nodes = pa.Table.from_pylist(rows, schema=schemas.NODES.schema)
    with store.staging("test") as folder:
        schemas.NODES.layout.write(nodes, folder / "nodes.parquet")
        (folder / "late").mkdir()
        return BundleStore(store).build(
            "v", RANKED, Models(late_interaction=folder / "late"), {}, folder / "nodes.parquet",
            {name: f"{name}.md" for name in DOCUMENTS}, Settings(),
            Workspace(store, "test", folder),
            metadata={name: to_json(about) for name, about in said.items()},
        )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    store = ArtifactStore(tmp_path_factory.mktemp("metadata"))
    serve(store, build(store, SAID))
    return store


@pytest.fixture(scope="module")
def searcher(store: ArtifactStore) -> Searcher:
    return Searcher(build(store, SAID))


def asked(*conditions: tuple[str, str, Any], join: str = "and") -> MetadataFilters:
    filters = [
        MetadataFilter(key=key, operator=FilterOperator(operator), value=value)
        for key, operator, value in conditions
    ]
    return MetadataFilters(filters=filters, condition=join)  # type: ignore[arg-type]


def test_an_answer_and_a_node_say_what_their_document_says(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with service(store) as client:
        hits = client.get("/search", params={"question": QUESTION}).json()["hits"]
        compared = client.get("/compare", params={"question": QUESTION}).json()
    by_text = {hit["text"]: hit["metadata"] for hit in hits}
    assert by_text[PUMP[0]] == P20
    assert by_text[PUMP[0]]["draft"] is True
    assert (by_text[BREAD[0]], by_text[PUMP[3]]) == (SAID["bread"], {})
    assert compared["base"][0]["metadata"] == P20

    node = ChampionRetriever(store.root, 1).retrieve(QUESTION)[0].node
    place = {"path": "pump.md", "title": "pump", "heading": "About pump"}
    assert node.metadata == {**place, **P20}
    monkeypatch.setenv("RAGFT_STORE", str(store.root))
    assert main(["search", QUESTION, "--top", "1"]) == 0
    assert to_json(P20) in capsys.readouterr().out


def test_a_running_service_takes_over_what_was_edited(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    serve(store, build(store, SAID))
    edited = build(store, {**SAID, "pump": {"product": "P30"}, "plain": {"product": "P20"}})
    retriever = ChampionRetriever(store.root, filters=asked(("product", "==", "P20")))
    assert {node.metadata["path"] for node in retriever.retrieve(QUESTION)} == {"pump.md"}
    question = {"question": QUESTION, "filters": {"filters": [{"key": "product", "value": "P30"}]}}
    with service(store) as client:
        assert client.post("/search", json=question).json()["hits"] == []
        serve(store, edited)
        wait_for(lambda: client.get("/champion").json()["bundle"] == edited.digest)
        hits = client.post("/search", json=question).json()["hits"]
    assert {(hit["path"], hit["metadata"]["product"]) for hit in hits} == {("pump.md", "P30")}
    assert {node.metadata["path"] for node in retriever.retrieve(QUESTION)} == {"plain.md"}


@pytest.mark.parametrize(
    ("filters", "paths"),
    [
        (asked(("product", "==", "P20")), {"pump.md"}),
        (asked(("tags", "any", ["seal", "x"]), ("year", ">=", 2024)), {"pump.md"}),
        (asked(("product", "!=", "P20")), {"bread.md"}),
        (asked(("year", ">", 2000), ("product", "==", "oven"), join="or"), {"pump.md", "bread.md"}),
        (asked(("product", "==", "P20"), join="not"), {"bread.md", "plain.md"}),
        (asked(("heading", "==", "About bread")), {"bread.md"}),
        (asked(("path", "text_match", "ain.md")), {"plain.md"}),
        (asked(), {"pump.md", "bread.md", "plain.md"}),
    ],
)  # fmt: skip
def test_filters_leave_the_passages_that_match(
    searcher: Searcher, filters: MetadataFilters, paths: set[str]
) -> None:
    hits = searcher.search(QUESTION, 20, filters)
    assert {hit.path for hit in hits} == paths
    texts = {text for path in paths for text in DOCUMENTS[path.removesuffix(".md")]}
    assert {hit.text for hit in hits} == texts
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


REFUSED = [
    ({"key": "year", "value": "P20", "operator": "like"}, "the operator 'like' is not to be had"),
    ({"key": "tags", "value": "a", "operator": ">"}, "it holds lists"),
    ({"key": "a b", "value": "a"}, "a key is letters, digits, _ and -"),
    ({"key": "year"}, "None is neither text nor number"),
    ({"key": "year", "value": {}}, "value"),
    ({"key": "year", "value": 1, "depth": 2}, "extra inputs are not permitted"),
]


def test_filters_over_http_are_llamaindex_s_own_in_json(store: ArtifactStore) -> None:
    nested = MetadataFilters(
        filters=[asked(("product", "==", "P20")), *asked(("draft", "==", "true")).filters]
    )
    with service(store) as client:

        def ask(filters: Any) -> Any:
            return client.post("/search", json={"question": QUESTION, "filters": filters})

        answer = ask(nested.model_dump(mode="json"))
        assert {hit["path"] for hit in answer.json()["hits"]} == {"pump.md"}
        assert len(ask({"filters": [{"key": "draft", "value": True}]}).json()["hits"]) == 4
        assert len(ask(None).json()["hits"]) == len(ask({"filters": []}).json()["hits"]) == 8
        for condition, line in REFUSED:
            answer = ask({"filters": [condition]})
            assert answer.status_code == 422, condition
            assert line in answer.json()["detail"]
        many = ask({"filters": [{"filters": [{"key": "a", "value": 1}] * 33}]})
        assert (many.status_code, "at most 32" in many.json()["detail"]) == (422, True)
        deep = json.loads('{"filters": [' * 400 + "]}" * 400)
        assert ask(deep).status_code in (400, 422)
