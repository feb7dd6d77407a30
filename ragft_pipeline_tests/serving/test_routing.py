"""The served router: in the terminal, in Python, and in LlamaIndex's router engines."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pytest
from llama_index.core import SimpleKeywordTableIndex, SummaryIndex, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RouterQueryEngine, ToolRetrieverRouterQueryEngine
from llama_index.core.response_synthesizers import TreeSummarize
from llama_index.core.schema import TextNode
from llama_index.core.selectors import EmbeddingSingleSelector
from llama_index.core.tools import QueryEngineTool, ToolMetadata
from llama_index.embeddings.huggingface import HuggingFaceEmbedding

from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.retrieval.folds import folds_of
from ragft_pipeline.retrieval.question_sets import SERVED
from ragft_pipeline.routing.catalog import KINDS, ToolName
from ragft_pipeline.routing.evaluation import ROUTER, UNTUNED
from ragft_pipeline.routing.tool_router import ToolRouter
from ragft_pipeline.serving.bundle import BundleStore
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.llamaindex import ChampionEmbedding
from ragft_pipeline.serving.llamaindex_routing import (
    ChampionSelector,
    ChampionToolRetriever,
)
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline_tests.conftest import Project
from ragft_pipeline_tests.serving.conftest import Bundles

QUESTION = "how is the strainer cleaned?"


@pytest.fixture(scope="module")
def live(finished: Project) -> Champion:
    return Champion(finished.store)


class Tools:
    """LlamaIndex query engines of a catalog's tools, over the champion's own nodes."""

    def __init__(self, live: Champion) -> None:
        self._live = live
        self._rows = live.searcher.bundle.nodes().to_pylist()

    def make(self, name: ToolName) -> QueryEngineTool:
        nodes = [
            TextNode(id_=row["node_id"], text=row["text"])
            for row in self._rows
            if row["doc_key"] == name.scope_id
        ]
        llm = MockLLM()
        if name.kind == "vector":
            index = VectorStoreIndex(nodes, embed_model=ChampionEmbedding(self._live))
        elif name.kind == "summary":
            index = SummaryIndex(nodes)
        else:
            index = SimpleKeywordTableIndex(nodes, llm=llm)
        engine = index.as_query_engine(llm=llm)
        about = self._live.searcher.path_of(name.scope_id)
        return QueryEngineTool.from_defaults(engine, name=name.tool_id, description=about)


def test_a_route_is_the_evaluated_one(finished: Project, live: Champion) -> None:
    rows = finished.artifact("router_eval").table()
    tools = live.searcher.tool_router
    asked = rows.filter(pc.equal(rows.column("system"), ROUTER))
    asked = [row for row in asked.to_pylist() if row["question_set"] == SERVED]
    folds = folds_of([row["cluster"] for row in asked]).tolist()
    routers = [tools.router.without(fold) for fold in folds]
    own = tools.router.second_opinion  # the service holds no other scorer
    both = [pair for pair in zip(asked, routers) if pair[1].second_opinion == own][:8]
    gold = finished.artifact("gold_questions").table().to_pylist()
    owner = {row["question_id"]: row["doc_key"] for row in gold}
    shown = 0
    for row, router in both:
        route = ToolRouter(router, tools.index, tools._encode, tools._scorer).route(row["question"])
        assert route.confidence == pytest.approx(row["confidence"], abs=1e-4)
        assert route.abstained == row["abstained"]
        if (key := owner.get(row["question_id"])) and row["first_rank"]:
            ranked = [tools.index.doc_keys[tool] for tool, _ in route.tools]
            assert key in ranked
            shown += 1
    assert shown


def test_searching_within_documents_looks_nowhere_else(live: Champion) -> None:
    searcher = live.searcher
    first = searcher.search(QUESTION, 1)[0]
    key = next(
        row["doc_key"]
        for row in searcher.bundle.nodes().to_pylist()
        if row["node_id"] == first.node_id
    )
    hits = searcher.search_within(QUESTION, [key], 5)
    assert {hit.path for hit in hits} == {searcher.path_of(key)}
    assert first.node_id in [hit.node_id for hit in hits]
    everything = searcher.search_within(QUESTION, searcher.tool_router.index.doc_keys, 5)
    assert [hit.node_id for hit in everything] == [h.node_id for h in searcher.search(QUESTION, 5)]


def test_the_terminal_shows_the_route_and_what_it_found(finished: Project) -> None:
    run = finished.ragft("search", QUESTION, "--route", "--top", "2")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("route: ")
    assert "kinds of index: vector" in run.stdout
    assert "\n1. " in run.stdout


def test_a_bundle_without_a_router_says_so(promoted: Bundles) -> None:
    store, pump, _ = promoted
    with pytest.raises(RagftError, match="has no router"):
        Searcher(BundleStore(store).load(pump.digest)).route(QUESTION)


def test_the_router_engine_asks_the_right_document_among_three_kinds(live: Champion) -> None:
    searcher, tools = live.searcher, Tools(live)
    row = searcher.bundle.nodes().to_pylist()[0]
    right, question = row["doc_key"], " ".join(row["text"].split()[:24])
    others = [key for key in searcher.tool_router.index.doc_keys if key != right][:3]
    choices = [tools.make(ToolName(key, kind)) for key in (right, *others) for kind in KINDS]
    engine = RouterQueryEngine(
        ChampionSelector(live), choices, llm=MockLLM(), summarizer=TreeSummarize(llm=MockLLM())
    )
    answer = engine.query(question)
    (selection,) = answer.metadata["selector_result"].selections
    assert ToolName.parse(choices[selection.index].metadata.name).scope_id == right  # type: ignore[union-attr]
    assert answer.source_nodes
    sure = ChampionSelector(live).confidences([t.metadata for t in choices], question)
    assert sure.sum() == pytest.approx(1.0)
    assert sure.argmax() == selection.index


def test_tools_of_no_catalog_are_chosen_by_their_descriptions(live: Champion) -> None:
    choices = [
        ToolMetadata(name="billing", description="Invoices, payment terms and reminders."),
        ToolMetadata(name="plants", description="Cleaning of strainers, pumps and boilers."),
        ToolMetadata(name="people", description="Holidays, sick leave and contracts."),
    ]
    chosen = ChampionSelector(live).select(choices, QUESTION).selections
    assert [one.index for one in chosen] == [1]
    several = ChampionSelector(live, max_tools=3).select(choices, "holidays or invoices?")
    assert 1 <= len(several.selections) <= 3


def test_the_tool_retriever_makes_only_the_tools_it_returns(live: Champion) -> None:
    made: list[ToolName] = []
    tools = Tools(live)

    def make(name: ToolName) -> QueryEngineTool:
        made.append(name)
        return tools.make(name)

    retriever = ChampionToolRetriever(live, make, max_tools=2)
    engine = ToolRetrieverRouterQueryEngine(
        retriever, llm=MockLLM(), summarizer=TreeSummarize(llm=MockLLM())
    )
    answer = engine.query(QUESTION)
    assert 1 <= len(made) <= 2
    assert answer.metadata["retrieved_tools"]
    retriever.retrieve(QUESTION)
    assert len(made) <= 2, "a tool is made once"


def test_the_untuned_baseline_is_llamaindex_embedding_selector(
    finished: Project, live: Champion
) -> None:
    catalog = finished.artifact("tool_catalog").table().to_pylist()
    described = [row for row in catalog if row["scope"] == "document" and row["kind"] == "summary"]
    described.sort(key=lambda row: row["scope_id"])
    choices = [ToolMetadata(name=r["tool_id"], description=r["description"]) for r in described]
    folder = resolve_weights(finished.settings.embedder.model).folder
    selector = EmbeddingSingleSelector(HuggingFaceEmbedding(model_name=str(folder)))
    rows = finished.artifact("router_eval").table().to_pylist()
    gold = {
        row["question_id"]: row["doc_key"]
        for row in finished.artifact("gold_questions").table().to_pylist()
    }
    asked = [r for r in rows if r["system"] == UNTUNED and r["question_id"] in gold][:5]
    assert asked
    for row in asked:
        index = selector.select(choices, row["question"]).selections[0].index
        right = described[index]["scope_id"] == gold[row["question_id"]]
        assert right <= bool(row["recall_at_1"])
    assert np.isnan([row["confidence"] for row in asked]).all()
