"""Cross-fitting: nothing that a question fitted or chose scores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragft_pipeline.evaluation.choosing import (
    Choice,
    Choices,
    CrossFit,
    Fused,
    Plain,
    Ranked,
    System,
    Weights,
    legible,
    out_of_fold,
    prior_choice,
)
from ragft_pipeline.evaluation.ranking import Found
from ragft_pipeline.evaluation.systems import BASE, BM25
from ragft_pipeline.retrieval.evidence import FIRST_STAGE, Candidates
from ragft_pipeline.retrieval.folds import agreed, folds_of
from ragft_pipeline.retrieval.metrics import PRIMARY

GRID = (0.0, 0.5, 1.0)


def found(scores: Sequence[float] | np.ndarray) -> Found:
    values = np.asarray(scores, float)
    return Found({PRIMARY: values}, np.zeros((len(values), 1), int))


@dataclass
class Witness:
    """A system whose weights are the questions that fitted them: a mark on whatever they score."""

    name: str
    scored: dict[int, set[int]]

    def fit(self, rows: np.ndarray) -> Weights:
        return {str(row): 1.0 for row in np.flatnonzero(rows)}

    def found(self, weights: Weights, rows: np.ndarray) -> Found:
        assert isinstance(weights, dict)
        for row in np.flatnonzero(rows):
            self.scored.setdefault(int(row), set()).update(map(int, weights))
        return found(np.full(int(rows.sum()), 0.5))


clusters_of = st.lists(st.integers(0, 12), min_size=1, max_size=40)


@given(clusters_of)
def test_no_question_that_fitted_a_weight_is_scored_by_it(numbers: list[int]) -> None:
    clusters = [f"c{number}" for number in numbers]
    witness = Witness("witness", {})
    choices = CrossFit([witness], ["witness"], clusters, clusters, "witness").choices()
    witness.scored.clear()
    out_of_fold(choices, clusters, lambda one, rows: witness.found(one.weights["witness"], rows))
    assert witness.scored.keys() == set(range(len(clusters)))
    folds = folds_of(clusters)
    for question, fitted in witness.scored.items():
        assert fitted == set(np.flatnonzero(folds != folds[question]).tolist())
        assert all(clusters[other] != clusters[question] for other in fitted)


@given(clusters_of)
def test_the_choice_for_a_fold_looks_at_no_score_that_the_fold_fitted(numbers: list[int]) -> None:
    clusters = [f"c{number}" for number in numbers]
    folds = folds_of(clusters)
    for fold in np.unique(folds).tolist():
        witness = Witness("witness", {})
        CrossFit([witness], ["witness"], clusters, clusters, "prior").choose(fold)
        own = set(np.flatnonzero(folds == fold).tolist())
        assert not own & witness.scored.keys()
        assert all(not own & fitted for fitted in witness.scored.values())


@given(clusters_of, st.data())
def test_joined_clusters_share_a_fold_and_no_weight(
    numbers: list[int], data: st.DataObject
) -> None:
    joined = data.draw(st.sampled_from(numbers))
    clusters = ["c0" if number in (0, joined) else f"c{number}" for number in numbers]
    witness = Witness("witness", {})
    choices = CrossFit([witness], ["witness"], clusters, clusters, "witness").choices()
    out_of_fold(choices, clusters, lambda one, rows: witness.found(one.weights["witness"], rows))
    together = {row for row, cluster in enumerate(clusters) if cluster == "c0"}
    for question in together:
        assert not witness.scored[question] & together


def test_a_fold_stays_whatever_comes_beside_it() -> None:
    clusters = [f"c{number}" for number in range(50)]
    before = dict(zip(clusters, folds_of(clusters)))
    later = [*reversed(clusters[10:]), "new", "newer"]
    assert all(before[name] == fold for name, fold in zip(later, folds_of(later)) if name in before)
    assert len(set(before.values())) == 5


def test_a_planted_question_changes_the_choice_of_other_folds_alone() -> None:
    clusters = [f"c{number}" for number in range(40)]
    folds, random = folds_of(clusters), np.random.default_rng(0)
    scores = random.uniform(0.4, 0.6, (3, 40))
    planted = scores.copy()
    planted[2, 7] = 1e6  # at the third weight, a question that outvotes all others
    before, after = (
        CrossFit(
            [Fused("hybrid(base)", GRID, [found(row) for row in rows])],
            ["hybrid(base)"], clusters, clusters, "hybrid(base)",
        ).choices()
        for rows in (scores, planted)
    )  # fmt: skip
    own = int(folds[7])
    assert after.without(own) == before.without(own)
    others = set(folds.tolist()) - {own}
    assert all(after.without(fold).weights == {"hybrid(base)": 1.0} for fold in others)
    assert after.whole.weights == {"hybrid(base)": 1.0}


def chosen(systems: Sequence[System]) -> str:
    clusters = [f"c{number}" for number in range(60)]
    names = [system.name for system in systems]
    return CrossFit(systems, names, clusters, clusters, "prior").choose()


def test_the_cheapest_is_chosen_of_those_that_the_questions_cannot_tell_from_the_best() -> None:
    random = np.random.default_rng(1)
    hard = random.uniform(0, 1, 60)
    cheap = Plain("hybrid(base)", found(hard))
    equal = Plain("hybrid(base) + ranker", found(hard + 0.004 + random.normal(0, 0.1, 60)))
    better = Plain("hybrid(tuned) + ranker", found(hard + 0.1 + random.normal(0, 0.1, 60)))
    assert chosen([cheap, equal]) == cheap.name
    assert chosen([cheap, equal, better]) == better.name
    assert chosen([better, cheap]) == better.name


def test_of_those_that_cost_alike_the_best_is_chosen() -> None:
    hard = np.random.default_rng(1).uniform(0, 1, 60)
    base, tuned = Plain("hybrid(base)", found(hard)), Plain("hybrid(tuned)", found(hard + 1e-6))
    assert chosen([base, tuned]) == chosen([tuned, base]) == tuned.name


def test_where_the_base_is_best_the_questions_choose_it() -> None:
    hard = np.random.default_rng(2).uniform(0.2, 0.8, 60)
    grid = [found(hard - 0.1 * (1 - weight)) for weight in GRID]
    base, hybrid = Plain("base", found(hard)), Fused("hybrid(base)", GRID, grid)
    assert chosen([base, hybrid]) == "base"
    assert hybrid.fit(np.ones(60, bool)) == 1.0  # and BM25 gets no say


def test_bm25_gets_all_the_say_where_the_embedder_knows_nothing() -> None:
    hard = np.random.default_rng(2).uniform(0.2, 0.8, 60)
    hybrid = Fused("hybrid(base)", GRID, [found(hard - 0.5 * weight) for weight in GRID])
    assert chosen([Plain("base", found(hard - 0.5)), hybrid]) == "hybrid(base)"
    assert hybrid.fit(np.ones(60, bool)) == 0.0


def test_without_others_to_choose_the_prior_stands() -> None:
    one = Plain("one", found([0.5]))
    assert CrossFit([one], ["one"], ["c"], ["c"], "prior").choices().without(
        int(folds_of(["c"])[0])
    ) == Choice("prior", {"one": None})
    hybrid = Fused("hybrid(base)", GRID, [found([0.1]), found([0.2]), found([0.9])])
    assert prior_choice([hybrid], "hybrid(base)").whole.weights == {"hybrid(base)": 0.5}


@pytest.mark.parametrize(
    ("dense", "share"), [(0.05, 0.0), (0.2, 0.0), (0.3, 0.5), (0.4, 1.0), (0.7, 1.0)]
)
def test_an_embedder_that_finds_no_passage_by_its_own_words_cannot_read(
    dense: float, share: float
) -> None:
    systems = [Plain(BASE, found([dense] * 3)), Plain(BM25, found([0.8] * 3))]
    assert legible(systems) == pytest.approx(share)
    assert legible(systems[:1]) == 1.0  # nothing to compare with
    assert legible([systems[0], Plain(BM25, found([0.0] * 3))]) == 1.0


def test_what_rests_on_an_embedder_that_cannot_read_counts_nothing() -> None:
    nodes = np.array([[0, 1]])
    features = np.zeros((1, 2, len(FIRST_STAGE)), np.float32)
    features[0, 0, FIRST_STAGE.index("dense")] = features[0, 0, FIRST_STAGE.index("document")] = 1
    features[0, 1, FIRST_STAGE.index("bm25")] = 1
    candidates = Candidates(nodes, features[:, :, 0], features, FIRST_STAGE)
    rows, top = np.ones(1, bool), {}
    for share in (1.0, 0.0):
        ranker = Ranked("hybrid(base) + ranker", candidates, [frozenset({1})], ["c"], share)
        weights = prior_choice([ranker], ranker.name).whole.weights[ranker.name]
        top[share] = int(ranker.found(weights, rows).top[0, 0])
    assert top == {1.0: 0, 0.0: 1}


def test_choices_are_read_as_they_were_written(tmp_path: Path) -> None:
    folds = {"3": Choice("b", {"a": None, "b": {"dense": 1.0}})}
    choices = Choices(7, Choice("a", {"a": None, "b": {"dense": 2.0}, "c": 0.5}), folds)
    choices.save(tmp_path)
    assert Choices.load(tmp_path) == choices


@pytest.mark.parametrize(("turned", "taken"), [(0, "on"), (3, "off")])
def test_a_choice_that_a_single_fold_turns_is_not_made(turned: int, taken: str) -> None:
    clusters = [f"c{number}" for number in range(40)]
    harms = np.where(folds_of(clusters) == 0, 1.0, 0.01 if turned else -0.1)

    def choose(rows: np.ndarray) -> str:
        return "off" if harms[rows].mean() > 0 else "on"

    assert choose(np.ones(40, bool)) == "off"
    assert agreed(choose, clusters, "on") == taken
