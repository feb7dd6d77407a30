"""One question at a time, in small catalogs and in large ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from ragft_pipeline.retrieval.adapters import Adapter, linear_adapter
from ragft_pipeline.retrieval.encoder import normalise_rows
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.nearest import NearestVectors
from ragft_pipeline.routing.index_kinds import KindClassifier
from ragft_pipeline.routing.router import Choice, Router
from ragft_pipeline.routing.tool_index import ToolIndex
from ragft_pipeline.routing.tool_router import ToolRouter
from ragft_pipeline_tests.corpora import prose

WIDTH, TOOLS = 32, 6000
QUESTIONS = [prose(f"tool {tool}", 12) for tool in range(0, TOOLS, 300)]


def _vectors(rows: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(60, WIDTH))
    return normalise_rows(centres[draw.integers(60, size=rows)] + draw.normal(size=(rows, WIDTH)))


def _encode(questions: Sequence[str], kind: str) -> np.ndarray:
    rows = [np.random.default_rng(len(text)).normal(size=WIDTH) for text in questions]
    return normalise_rows(np.array(rows, np.float32))


def _router() -> Router:
    kinds = KindClassifier(np.zeros((WIDTH + 5, 3), np.float32), np.zeros(3, np.float32))
    adapter = Adapter("base", linear_adapter(torch.eye(WIDTH)))
    return Router(adapter, kinds, Choice(0.7, 0.05, 0.9, 5, 0.2))


@pytest.fixture(scope="module")
def index() -> ToolIndex:
    counts = np.random.default_rng(1).integers(1, 4, size=TOOLS)
    starts = np.concatenate([[0], np.cumsum(counts)])
    texts = [prose(f"tool {tool}", 12) for tool in range(TOOLS)]
    shown = [text for text, count in zip(texts, counts) for _ in range(count)]
    names = [str(tool) for tool in range(TOOLS)]
    return ToolIndex(names, shown, _vectors(len(shown)), starts, LexicalIndex(texts))


def test_a_large_catalog_is_routed_as_if_every_tool_were_scored(index: ToolIndex) -> None:
    exact = ToolRouter(_router(), index, _encode)
    large = ToolRouter(_router(), index, _encode, exact_up_to=1000)
    assert not len(large.index.vectors), "they are kept once"
    same = 0
    for question in QUESTIONS:
        one, other = exact.route(question), large.route(question)
        same += one.tools[0][0] == other.tools[0][0]
        if one.tools[0][0] == other.tools[0][0]:
            assert other.confidence == pytest.approx(one.confidence, abs=0.02)
    assert same >= len(QUESTIONS) - 1


def test_the_words_of_a_question_find_its_tool(index: ToolIndex) -> None:
    tools = ToolRouter(_router().with_choice(dense_weight=0.2), index, _encode)
    found = [tools.route(question).tools[0][0] for question in QUESTIONS]
    assert found == list(range(0, TOOLS, 300))


def test_confidences_of_some_tools_leave_the_others_out(index: ToolIndex) -> None:
    tools = ToolRouter(_router(), index, _encode)
    sure = tools.confidences(QUESTIONS[2], np.array([7, 600, 5000]))
    assert sure.sum() == pytest.approx(1.0)
    assert sure.argmax() == 1


def test_nearest_vectors_of_a_large_set_are_nearly_all_found() -> None:
    vectors = _vectors(20_000)
    queries = _vectors(20_050)[-50:]
    exact = NearestVectors(vectors).search(queries, 20)
    inverted = NearestVectors(vectors, exact_up_to=1000)
    assert not inverted.exact
    found = inverted.search(queries, 20)
    overlap = [len(set(a.tolist()) & set(b.tolist())) / 20 for a, b in zip(exact, found)]
    assert np.mean(overlap) >= 0.9
