"""Evaluation over candidates: nearly the exact rankings, and it says so."""

from __future__ import annotations

import numpy as np
import pytest

from ragft_pipeline.evaluation.systems import DenseRetriever, FirstStages
from ragft_pipeline.retrieval.encoder import normalise_rows
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.nearest import recall
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.search import fuse

NODES, QUESTIONS = 6000, 40


def _vectors(number: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = normalise_rows(random.normal(size=(60, 24)))
    spread = 0.15 * random.normal(size=(number, 24))
    return normalise_rows(centres[random.integers(60, size=number)] + spread)


@pytest.fixture(scope="module")
def asked() -> QuestionSet:
    ids = [f"q{n}" for n in range(QUESTIONS)]
    texts = [f"w{n % 50} w{n * 7 % 90} w{n * 13 % 70}" for n in range(QUESTIONS)]
    judged = [{n * 100: 1} for n in range(QUESTIONS)]
    return QuestionSet("gold_dev", ids, texts, ids, [True] * QUESTIONS, judged)


def _stages(exact_up_to: int) -> FirstStages:
    texts = [f"w{n % 50} w{n % 90} w{n % 70} w{n % 11}" for n in range(NODES)]
    queries = _vectors(QUESTIONS, 1)

    def known(questions: QuestionSet) -> np.ndarray:
        return queries[: len(questions)]

    lexical = LexicalIndex(texts)
    retriever = DenseRetriever("base", _vectors(NODES, 1), lambda _: queries[:1], known, lexical)
    return FirstStages(texts, lexical, [retriever], exact_up_to=exact_up_to)


def _ranked(stages: FirstStages, asked: QuestionSet) -> dict[str, np.ndarray]:
    """Return the best nodes by the embedder, and by it and BM25 alike."""
    parts: dict[str, list[np.ndarray]] = {"base": [], "hybrid(base)": []}
    for _, _, scored in stages.blocks(asked):
        for _, scores in scored:
            parts["base"].append(scores.best(scores.dense).nodes)
            mixed = fuse(scores.dense, scores.words, 0.5)
            parts["hybrid(base)"].append(scores.best(mixed).nodes)
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def test_candidates_rank_nearly_as_all_nodes_do(asked: QuestionSet) -> None:
    wanted, found = (_ranked(_stages(most), asked) for most in (NODES, NODES - 1))
    for system in ("base", "hybrid(base)"):
        assert recall(found[system], wanted[system]) >= 0.98
    assert all(len(set(row)) == 100 for row in found["hybrid(base)"].tolist())


def test_which_index_and_its_recall_are_said(asked: QuestionSet) -> None:
    exact, approximate = _stages(NODES), _stages(NODES - 1)
    for stages in (exact, approximate):
        _ranked(stages, asked)
    assert exact.index_facts == {}
    facts = approximate.index_facts
    assert str(facts["index_base"]).startswith("faiss IVF")
    assert float(facts["recall_at_100_base"]) >= 0.98
    assert float(facts["recall_at_100_hybrid(base)"]) >= 0.95


def test_a_single_question_is_searched_in_the_same_index(asked: QuestionSet) -> None:
    exact, approximate = _stages(NODES), _stages(NODES - 1)
    retriever = approximate.retrievers[0]
    _ranked(approximate, asked)
    query = retriever.encode(["anything"])
    best = [stages.nearest(stages.retrievers[0], query) for stages in (exact, approximate)]
    assert recall(best[1], best[0]) >= 0.95
