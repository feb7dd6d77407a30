"""Lists that follow a change equal those of a search of all nodes, to the bit, ties among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragft_pipeline.retrieval import best_lists
from ragft_pipeline.retrieval.best_lists import Asked, BestLists, Searched, follow, rounded, search
from ragft_pipeline.retrieval.encoder import normalise_rows
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.search import fuse, top_k

WORDS = ("valve", "pump", "boiler", "pipe", "steam")
TEXTS = [
    " ".join(WORDS[(n * step) % 5] for step in range(1, 2 + n % 4)) for n in range(60)
]  # many are alike, so are their scores
STATISTICS = TermStatistics.of(TEXTS[:40], "english")
DRAW = np.random.default_rng(1)
SOME = normalise_rows(DRAW.normal(size=(12, 24)))
VECTORS = SOME[DRAW.integers(0, 12, 60)]  # equal cosines
QUESTIONS = ["steam valve", "boiler pump pump", "pipe", "nothing of it", "valve pipe steam"]
QUERIES = np.concatenate([SOME[:2], normalise_rows(DRAW.normal(size=(3, 24)))])
NODES, FEW = (st.sets(st.integers(0, 59), max_size=most) for most in (60, 6))


def nodes_of(places: Sequence[int]) -> Searched:
    texts = [TEXTS[place] for place in places]
    lexical = LexicalIndex(texts, STATISTICS, asked_in=["english"])
    return Searched([f"n{place:02}" for place in places], rounded(VECTORS[list(places)]), lexical)


def asked_about(places: Sequence[int]) -> Asked:
    own = [[f"n{places[row % len(places)]:02}"] for row in range(len(QUESTIONS))]
    own[1] = [f"n{place:02}" for place in places[:3]]
    own[2] = []
    return Asked([f"q{row}" for row in range(5)], QUESTIONS, rounded(QUERIES), own)


def listed(lists: BestLists) -> list[list[tuple[str, float]]]:
    """Return the best nodes of each question, without those to spare."""
    names = lists.names.to_pylist()
    return [
        [(names[node], score) for node, score in zip(nodes, scores) if node >= 0]
        for nodes, scores in zip(lists.nodes.tolist(), lists.scores.tolist())
    ]


def answering(lists: BestLists) -> dict[tuple[int, str], float]:
    names = lists.names.to_pylist()
    pairs = zip(lists.asking.tolist(), lists.answers.tolist(), lists.answer_scores.tolist())
    return {(row, names[node]): score for row, node, score in pairs}


@pytest.fixture(autouse=True)
def few_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_lists, "SPARE", 3)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@settings(max_examples=25)
@given(first=NODES, changes=st.lists(FEW, min_size=1, max_size=4), depth=st.integers(1, 8))
def test_following_equals_searching(
    first: set[int], changes: list[set[int]], depth: int, weight: float
) -> None:
    before = sorted(first or {0})
    asked = asked_about(before)
    kept = search(asked, nodes_of(before), weight, depth)
    for change in changes:
        now = sorted(set(before) ^ change) or [1]
        asked = asked_about(now)
        whole = search(asked, nodes_of(now), weight, depth)
        gone, came = (sorted(set(a) - set(b)) for a, b in ((before, now), (now, before)))
        kept, anew = follow(kept, asked, nodes_of(gone), nodes_of(came), len(before), weight, depth)
        for row, (ours, theirs) in enumerate(zip(listed(kept), listed(whole))):
            if anew[row]:
                continue
            size = int(kept.ranked[row])
            assert size >= min(depth, len(now))
            assert ours[:size] == theirs[:size]
        ours, theirs = answering(kept), answering(whole)
        assert all(ours[pair] == theirs[pair] for pair in theirs if not anew[pair[0]])
        some, rest = np.flatnonzero(anew), np.flatnonzero(~anew)
        if len(some):
            kept = BestLists.joined(
                [kept.at(rest), search(asked.at(some), nodes_of(now), weight, depth)]
            ).at(np.argsort(np.append(rest, some)))
        before = now


def test_lists_are_the_best_of_the_fused_scores() -> None:
    nodes, asked = nodes_of(range(60)), asked_about(range(60))
    lists = listed(search(asked, nodes, 0.5, 10))
    mixed = fuse(QUERIES @ VECTORS.T, nodes.lexical.scores(asked.texts), 0.5)
    for row, best in enumerate(top_k(mixed, 10)):
        found = [score for _, score in lists[row][:10]]
        np.testing.assert_allclose(found, mixed[row, best], atol=1e-3)


def test_few_are_searched_for_anew_after_a_small_change() -> None:
    draw = np.random.default_rng(2)
    vectors = normalise_rows(draw.normal(size=(2000, 24)))
    queries = normalise_rows(draw.normal(size=(50, 24)))
    ids = [f"n{n:04}" for n in range(2000)]

    def nodes(places: range) -> Searched:
        texts = [TEXTS[place % 60] for place in places]
        lexical = LexicalIndex(texts, STATISTICS, asked_in=["english"])
        return Searched([ids[place] for place in places], rounded(vectors[places]), lexical)

    asked = Asked([f"q{n}" for n in range(50)], QUESTIONS * 10, rounded(queries), [[]] * 50)
    kept = search(asked, nodes(range(5, 2000)), 0.5, 20)
    _, anew = follow(kept, asked, nodes(range(5, 10)), nodes(range(5)), 1995, 0.5, 20)
    assert anew.sum() < 10
