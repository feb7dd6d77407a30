"""LlamaIndex's router engines with the tuned router.

    from llama_index.core.query_engine import RouterQueryEngine, ToolRetrieverRouterQueryEngine
    from ragft_pipeline.serving.llamaindex_routing import ChampionSelector, ChampionToolRetriever
    engine = RouterQueryEngine(ChampionSelector(".ragft"), tools)
    engine = ToolRetrieverRouterQueryEngine(ChampionToolRetriever(".ragft", make_tool))

Where every tool is named as a document's in the tool catalog (`vector:<doc_key>`), each is chosen
by all that its document holds; else each by its description alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.objects import ObjectRetriever
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle, QueryType
from llama_index.core.tools import QueryEngineTool, ToolMetadata

from ragft_pipeline.routing.catalog import ToolName
from ragft_pipeline.routing.router import picks
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.llamaindex import champion
from ragft_pipeline.serving.searcher import Searcher


class ChampionSelector(BaseSelector):
    """Selects tools as the served router does, for `RouterQueryEngine`.

    Args:
        store: the store's folder, or what `llamaindex.champion` returns.
        max_tools: selections at most; 1 lets the engine answer from one tool alone.

    One selection is the likeliest tool; several are the fewest whose confidences reach the
    router's coverage.
    """

    def __init__(self, store: str | Path | Champion, max_tools: int = 1) -> None:
        self._champion = store if isinstance(store, Champion) else champion(store)
        self._max_tools = max_tools

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        """Do nothing: there is no prompt."""

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        searcher = self._champion.searcher
        confidences = _confidences(searcher, choices, query.query_str)
        order = np.argsort(-confidences, kind="stable")
        router = searcher.tool_router.router
        picked, _ = picks(confidences[order][None], router.choice.coverage, self._max_tools)
        return SelectorResult(
            selections=[
                SingleSelection(index=int(i), reason=f"confidence {confidences[i]:.2f}")
                for i in order[: picked[0]]
            ]
        )

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        return self._select(choices, query)

    def confidences(self, choices: Sequence[ToolMetadata], question: str) -> np.ndarray:
        """Return how sure the router is of each tool, float (choices,) with sum 1."""
        return _confidences(self._champion.searcher, choices, question)


def _confidences(searcher: Searcher, choices: Sequence[ToolMetadata], question: str) -> np.ndarray:
    names = [ToolName.parse(choice.name) for choice in choices]
    known = [name for name in names if name is not None and searcher.has_document(name.scope_id)]
    if len(known) < len(choices):
        return searcher.described_confidences(question, [choice.description for choice in choices])
    documents = list(dict.fromkeys(name.scope_id for name in known))
    sure, kinds = searcher.tool_confidences(question, documents)
    of_document = dict(zip(documents, sure.tolist()))
    each = np.array([of_document[name.scope_id] * kinds[name.kind] for name in known])
    return np.asarray(each / each.sum())


class ChampionToolRetriever(ObjectRetriever[QueryEngineTool]):
    """Retrieves the tools a question needs, for `ToolRetrieverRouterQueryEngine`.

    Args:
        store: the store's folder, or what `llamaindex.champion` returns.
        make_tool: makes the engine of a catalog's tool, when a bundle first needs it.
        max_tools: tools at most.

    Tools are made of the documents that the router picks, by the likeliest kind each; of a
    question that it would send everywhere, of the best `max_tools`.
    """

    def __init__(
        self,
        store: str | Path | Champion,
        make_tool: Callable[[ToolName], QueryEngineTool],
        max_tools: int = 3,
    ) -> None:
        self._champion = store if isinstance(store, Champion) else champion(store)
        self._make_tool = make_tool
        self._max_tools = max_tools
        self._tools: dict[ToolName, QueryEngineTool] = {}
        self._bundle = ""

    def retrieve(self, str_or_query_bundle: QueryType) -> list[QueryEngineTool]:
        """Return the tools for a question, the likeliest first."""
        bundle = str_or_query_bundle
        question = bundle if isinstance(bundle, str) else bundle.query_str
        searcher = self._champion.searcher
        if searcher.bundle.digest != self._bundle:  # engines may hold the last one's vectors
            self._tools, self._bundle = {}, searcher.bundle.digest
        route, _ = searcher.route(question)
        kind = max(route.kinds, key=lambda name: route.kinds[name])
        number = self._max_tools if route.abstained else min(route.picked, self._max_tools)
        keys = [searcher.tool_router.index.doc_keys[tool] for tool, _ in route.tools[:number]]
        return [self._tool(ToolName(key, kind)) for key in keys]

    async def aretrieve(self, str_or_query_bundle: QueryType) -> list[QueryEngineTool]:
        """Return the tools for a question, the likeliest first."""
        return self.retrieve(str_or_query_bundle)

    def _tool(self, name: ToolName) -> QueryEngineTool:
        if name not in self._tools:
            self._tools[name] = self._make_tool(name)
        return self._tools[name]
