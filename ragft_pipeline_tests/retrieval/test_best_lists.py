"""Lists that follow a change equal those of a search of all nodes, to the bit, ties among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragft_pipeline.retrieval import best_lists
from ragft_pipeline.retrieval.best_lists import (
    Asked,
    Part,
    Searched,
    follow,
    ranked,
    rounded,
    search,
)
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


Row = list[tuple[str, float]]


def rows_of(parts: list[Part]) -> list[Row]:
    """Return the lists of all questions, longest first as parts have them."""
    names, nodes, scores = ranked(parts, [f"q{row}" for row in range(5)])
    ids = names.to_pylist()
    return [
        [(ids[node], score) for node, score in zip(*row) if node >= 0]
        for row in zip(nodes.tolist(), scores.tolist())
    ]


def places_of(rows: list[Row], answers: Sequence[Sequence[str]]) -> list[int]:
    """Return where each question's one answer stands in its list, -1 where it does not."""
    ids = [[node for node, _ in row] for row in rows]
    return [
        row.index(own[0]) if len(own) == 1 and own[0] in row else -1
        for row, own in zip(ids, answers)
    ]


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
    [(standing, entries)] = search(asked_about(before), nodes_of(before), [weight], depth)
    parts = [Part([], entries)]
    for change in changes:
        now = sorted(set(before) ^ change) or [1]
        asked, nodes = asked_about(now), nodes_of(now)
        [(known, whole)] = search(asked, nodes, [weight], depth)
        gone, came = (nodes_of(sorted(set(a) - set(b))) for a, b in ((before, now), (now, before)))
        standing, added, anew = follow(standing, asked, gone, came, len(now), weight, depth)
        left = pc.is_in(added.column("question_id"), pa.array(np.array(asked.ids)[anew]))
        added = [added.filter(pc.invert(left))]
        if anew.any():
            some = asked.at(np.flatnonzero(anew))
            [(again, entries)] = search(some, nodes, [weight], depth)
            standing = pa.concat_tables([standing.filter(pa.array(~anew)), again])
            standing = standing.sort_by("question_id")
            added.append(entries)
        parts.append(Part(gone.ids, pa.concat_tables(added)))
        ours, theirs = rows_of(parts), rows_of([Part([], whole)])
        assert [len(row) for row in ours] == standing.column("listed").to_pylist()
        assert standing.column("above").to_pylist() == places_of(ours, asked.answers)
        for one, other in zip(ours, theirs):
            assert len(one) >= min(depth, len(now))
            size = min(len(one), len(other))
            assert one[:size] == other[:size]
        used = ("bounds", "having") if weight == 0.5 else ()
        for name in ("answers", "answer_scores", *used):
            assert standing.column(name).equals(known.column(name)), name
        before = now


def test_lists_are_the_best_of_the_fused_scores() -> None:
    nodes, asked = nodes_of(range(60)), asked_about(range(60))
    lists = rows_of([Part([], search(asked, nodes, [0.5], 10)[0][1])])
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
    [(kept, _)] = search(asked, nodes(range(5, 2000)), [0.5], 20)
    _, added, anew = follow(kept, asked, nodes(range(5, 10)), nodes(range(5)), 1995, 0.5, 20)
    assert added.num_rows < 20
    assert anew.sum() < 10
