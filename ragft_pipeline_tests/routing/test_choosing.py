"""What a router decides by: not by the questions that measure it; and honest confidence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ragft_pipeline.retrieval.adapters import Adapter, linear_adapter
from ragft_pipeline.retrieval.folds import folds_of
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.question_sets import PEOPLE, QuestionSet
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.routing.asked import Asked, Passages
from ragft_pipeline.routing.choosing import Choosing, temperature_of
from ragft_pipeline.routing.index_kinds import KindClassifier
from ragft_pipeline.routing.router import CANDIDATES, Choice, Router, shares
from ragft_pipeline.routing.tool_index import ToolIndex
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace

WIDTH, TOOLS, QUESTIONS = 16, 20, 60
START = Choice(0.7, 1.0, 1.0, 10, 0.0)


def _unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


class Made:
    """Questions about made tools of one passage each; without words, so that vectors decide."""

    def __init__(self) -> None:
        draw = np.random.default_rng(5)
        self.vectors = _unit(draw.normal(size=(TOOLS, WIDTH)))
        self.right = draw.integers(0, TOOLS, QUESTIONS)
        noise = 0.25 * draw.normal(size=(QUESTIONS, WIDTH))
        self.queries = _unit(self.vectors[self.right] + noise)
        names = [f"n{tool}" for tool in range(TOOLS)]
        lexical, starts = LexicalIndex(names), np.arange(TOOLS + 1)
        self.index = ToolIndex(names, names, self.vectors, starts, lexical)
        of_tool = [np.array([tool]) for tool in range(TOOLS)]
        self.passages = Passages(names, self.vectors, lexical, of_tool)

    def asked(self, misled: np.ndarray | None = None) -> Asked:
        """Return the questions; of those misled another tool is right than the nearest one."""
        moved = np.zeros(QUESTIONS, int) if misled is None else 7 * misled
        judged = [{int(tool): 1} for tool in (self.right + moved) % TOOLS]
        ids = [f"q{n:02}" for n in range(QUESTIONS)]
        clusters = [f"c{n % 15}" for n in range(QUESTIONS)]
        questions = QuestionSet(PEOPLE, ids, ids, clusters, [False] * QUESTIONS, judged)
        return Asked(questions, self.queries, questions.relevant)

    def choosing(self, asked: Asked, folder: Path) -> Choosing:
        work = Workspace(ArtifactStore(folder), "query_router", folder)
        maps = Adapter("base", linear_adapter(-torch.eye(WIDTH)))
        kinds = KindClassifier(np.zeros((WIDTH + 5, 3), np.float32), np.zeros(3, np.float32))
        router = Router(maps, kinds, START)
        return Choosing(router, {}, self.index, self.passages, asked, Settings(), work)


def test_a_choice_does_not_depend_on_the_questions_left_out(tmp_path: Path) -> None:
    made = Made()
    folds = folds_of(made.asked().questions.clusters)
    plain = made.choosing(made.asked(), tmp_path)
    whole = plain.choice(np.ones(QUESTIONS, bool))
    assert whole.strength == 0.0  # the maps turn every question around
    for fold in np.unique(folds):
        marked = made.choosing(made.asked(misled=folds == fold), tmp_path)
        assert marked.choice(folds != fold) == plain.choice(folds != fold)
        assert marked.choice(np.ones(QUESTIONS, bool)) != whole  # it would show


def test_without_questions_everything_is_searched(tmp_path: Path) -> None:
    made = Made()
    choice = made.choosing(made.asked(), tmp_path).choice(np.zeros(QUESTIONS, bool))
    assert (choice.strength, choice.dense_weight, choice.coverage) == (0.0, 0.7, 1.01)
    nothing = made.choosing(made.asked().at([]), tmp_path)
    assert nothing.choice(np.ones(0, bool)) == choice


def test_a_question_is_routed_by_the_choice_that_its_fold_had_no_part_in(tmp_path: Path) -> None:
    folds = {"2": replace(START, temperature=0.2, strength=0.5)}
    maps = Adapter("base", linear_adapter(-torch.eye(WIDTH)))
    router = Router(maps, KindClassifier(np.zeros((1, 1)), np.zeros(1)), START, folds)
    router.save(tmp_path)
    loaded = Router.load(tmp_path, "base")
    assert (loaded.choice, loaded.folds) == (START, folds)
    assert loaded.without(2).choice == folds["2"]
    assert loaded.without(3).choice == START
    vectors = _unit(np.random.default_rng(0).normal(size=(3, WIDTH)))
    np.testing.assert_allclose(loaded.adapter.queries(vectors), -vectors, rtol=1e-5)
    halfway = loaded.without(2).adapter.query.linear.weight
    np.testing.assert_allclose(halfway.detach().numpy(), 0.0, atol=1e-6)


@pytest.mark.parametrize("beyond", [True, False], ids=["beyond the candidates", "among them"])
def test_confidence_is_accuracy_where_a_third_is_missed(beyond: bool) -> None:
    """Of 200 tools 64 share the confidence: the right one of a miss is below them, or their last.

    A temperature that hears of such misses no more than that they are improbable is far too sure.
    """

    def drawn(questions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng(seed)
        scores = draw.normal(0.3, 0.12, (questions, 200)).astype(np.float32)
        right, missed = draw.integers(0, 200, questions), draw.random(questions) < 0.3
        rows = np.arange(questions)
        scores[rows, right] += np.where(missed, 0.0, draw.normal(0.5, 0.1, questions))
        lowest = np.sort(scores, axis=1)[:, 0 if beyond else -CANDIDATES]
        scores[rows, right] = np.where(missed, lowest, scores[rows, right])
        best = top_k(scores, CANDIDATES)
        return np.take_along_axis(scores, best, axis=1), best[:, 0] == right

    temperature = temperature_of(*drawn(300, seed=0))
    values, right = drawn(2000, seed=1)
    assert 0.5 < right.mean() < 0.7
    assert shares(values, temperature)[:, 0].mean() == pytest.approx(right.mean(), abs=0.06)
