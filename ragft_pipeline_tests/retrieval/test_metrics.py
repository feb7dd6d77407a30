from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, Success, nDCG

from ragft_pipeline.retrieval.metrics import (
    METRICS,
    ndcg,
    pooled_scores,
    score_rankings,
    smallest_sufficient,
)

PEERS = {
    "hit_at_1": Success @ 1,
    "hit_at_5": Success @ 5,
    "hit_at_10": Success @ 10,
    "mrr_at_10": RR @ 10,
    "ndcg_at_10": nDCG @ 10,
    "recall_at_100": R @ 100,
}


@pytest.mark.parametrize("depth", [3, 10, 100])
def test_every_metric_agrees_with_ir_measures(depth: int) -> None:
    draw = np.random.default_rng(depth)
    questions, nodes = 60, 150
    rankings = np.stack([draw.permutation(nodes)[:depth] for _ in range(questions)])
    relevant = [
        frozenset(draw.choice(nodes, draw.integers(1, 25), replace=False).tolist())
        for _ in range(questions)
    ]
    ours = score_rankings(rankings, relevant)
    truth = [
        ir_measures.Qrel(str(q), str(node), 1)
        for q, wanted in enumerate(relevant)
        for node in wanted
    ]
    run = [
        ir_measures.ScoredDoc(str(q), str(node), float(depth - rank))
        for q, ranking in enumerate(rankings)
        for rank, node in enumerate(ranking)
    ]
    theirs = {name: np.full(questions, np.nan) for name in METRICS}
    names = {str(measure): name for name, measure in PEERS.items()}
    for metric in ir_measures.iter_calc(list(PEERS.values()), truth, run):
        theirs[names[str(metric.measure)]][int(metric.query_id)] = metric.value
    for name in METRICS:
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-9, err_msg=name)


def test_a_question_without_a_hit_scores_nothing() -> None:
    scores = score_rankings(np.array([[0, 1, 2]]), [frozenset({7})])
    assert {name: float(values[0]) for name, values in scores.items()} == dict.fromkeys(
        (*METRICS, "first_rank"), 0.0
    )


def test_first_rank_counts_from_one() -> None:
    rankings = np.array([[4, 3, 2], [1, 2, 3]])
    scores = score_rankings(rankings, [frozenset({2, 3}), frozenset({1})])
    assert scores["first_rank"].tolist() == [2, 1]


def test_a_hit_below_ten_counts_for_recall_only() -> None:
    scores = score_rankings(np.arange(100)[None, :], [frozenset({50})])
    assert scores["recall_at_100"].tolist() == [1.0]
    assert scores["mrr_at_10"].tolist() == scores["ndcg_at_10"].tolist() == [0.0]
    assert scores["first_rank"].tolist() == [51]


def test_no_questions_and_no_nodes_are_fine() -> None:
    empty = score_rankings(np.zeros((0, 10), dtype=int), [])
    assert {len(values) for values in empty.values()} == {0}


def test_the_most_cautious_of_equals_is_chosen() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 50)
    base = np.full(50, 0.5)
    assert smallest_sufficient((0.25, 0.5, 1.0), [base, base + noise - noise.mean(), base]) == 0


def test_a_stronger_candidate_is_chosen_where_it_is_clearly_better() -> None:
    base = np.random.default_rng(1).uniform(0, 1, 50)
    assert smallest_sufficient((0.25, 0.5, 1.0), [base, base + 0.2, base + 0.2]) == 1
    assert smallest_sufficient((0.25, 0.5, 1.0), [base, base - 0.2, base + 0.2]) == 2


@pytest.mark.parametrize("size", [0, 1])
def test_with_no_evidence_the_first_candidate_or_the_best_is_chosen(size: int) -> None:
    scores = [np.full(size, value) for value in (0.1, 0.2)]
    assert smallest_sufficient((0.5, 1.0), scores) == (0 if size == 0 else 1)


def test_graded_ndcg_agrees_with_ir_measures_and_with_the_binary_one() -> None:
    draw = np.random.default_rng(5)
    rankings = np.stack([draw.permutation(60)[:30] for _ in range(40)])
    grades = [
        dict(
            zip(draw.choice(60, 12, replace=False).tolist(), [3, *draw.integers(0, 4, 11).tolist()])
        )
        for _ in range(40)
    ]
    truth = [
        ir_measures.Qrel(str(q), str(node), grade)
        for q, own in enumerate(grades)
        for node, grade in own.items()
    ]
    run = [
        ir_measures.ScoredDoc(str(q), str(node), float(-rank))
        for q, ranking in enumerate(rankings)
        for rank, node in enumerate(ranking)
    ]
    theirs = np.zeros(40)
    for metric in ir_measures.iter_calc([nDCG @ 10], truth, run):
        theirs[int(metric.query_id)] = metric.value
    np.testing.assert_allclose(score_rankings(rankings, grades)["ndcg_at_10"], theirs, atol=1e-9)
    alike = [{node: 1 for node, grade in own.items() if grade} for own in grades]
    binary = score_rankings(rankings, [frozenset(own) for own in alike])["ndcg_at_10"]
    np.testing.assert_allclose(ndcg(rankings, alike), binary, atol=1e-9)
    right = [frozenset(node for node, grade in own.items() if grade) for own in grades]
    by_sets, by_grades = (score_rankings(rankings, own) for own in (right, grades))
    for name in {*METRICS, "first_rank"} - {"ndcg_at_10"}:
        np.testing.assert_array_equal(by_sets[name], by_grades[name])


def test_a_system_is_not_punished_for_what_nobody_judged() -> None:
    judged = [{0: 2, 1: 0, 2: 1}]
    known, finder = np.array([[1, 0, 2, 3]]), np.array([[7, 8, 1, 0, 2]])
    assert ndcg(finder, judged) < ndcg(known, judged)
    ours, theirs = (pooled_scores(ranking, judged) for ranking in (known, finder))
    assert (ours["unjudged_at_10"], theirs["unjudged_at_10"]) == ([0.25], [0.4])
    assert ours["condensed_ndcg_at_10"] == theirs["condensed_ndcg_at_10"]
    assert ours["condensed_ndcg_at_10"] == ndcg(np.array([[1, 0, 2]]), judged)


def test_of_questions_that_no_pool_was_judged_for_nothing_is_said() -> None:
    beside = pooled_scores(np.array([[0, 1], [0, 1]]), [{0: 1}, {0: 0, 5: 1}])
    assert np.isnan(beside["unjudged_at_10"]).tolist() == [True, False]
    assert np.isnan(beside["condensed_ndcg_at_10"]).tolist() == [True, False]
