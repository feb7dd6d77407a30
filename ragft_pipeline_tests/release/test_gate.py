"""The gate on scores whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from ragft_pipeline.evaluation.claim import Paired
from ragft_pipeline.evaluation.significance import randomization_p
from ragft_pipeline.release.gate import Judgement, judge, spent_level
from ragft_pipeline.settings import EvaluationSettings, GateSettings

GATE, EVALUATION = GateSettings(), EvaluationSettings(bootstrap=2000)
SEEDS = range(20)


def _pair(seed: int, gain: float, questions: int = 240, name: str = "primary") -> Paired:
    """Return scores of two systems whose true difference is `gain`, three questions a document."""
    random = np.random.default_rng(seed)
    champion = random.uniform(0.2, 0.8, questions)
    document = np.repeat(random.normal(0, 0.05, questions // 3), 3)
    candidate = champion + gain + document + random.normal(0, 0.1, questions)
    return Paired(name, candidate, champion, [str(i // 3) for i in range(questions)])


def _judged(pair: Paired, *others: Paired, before: int = 0, ms: float = 10.0) -> Judgement:
    return judge(pair, others, (ms, 10.0), before, GATE, EVALUATION)


def test_a_better_candidate_passes_and_says_by_how_much() -> None:
    judged = _judged(_pair(1, 0.06))
    assert judged.passed
    assert judged.why.startswith("+0.0")
    assert judged.figures["superior/low"] > 0


def test_a_worse_one_is_refused_in_every_seed() -> None:
    assert not any(_judged(_pair(seed, -0.05)).passed for seed in SEEDS)


def test_an_equal_one_is_kept_out_in_nearly_every_seed() -> None:
    assert sum(_judged(_pair(seed, 0.0)).passed for seed in SEEDS) <= 1


def test_a_sure_but_useless_gain_is_kept_out() -> None:
    judged = _judged(_pair(1, 0.004, questions=30_000))
    assert judged.figures["superior/low"] > 0
    assert not judged.passed
    assert "useful gain" in judged.why


def test_too_few_documents_say_nothing() -> None:
    few = Paired("primary", np.full(40, 0.9), np.full(40, 0.1), [str(i % 4) for i in range(40)])
    assert "too few" in _judged(few).why


def test_a_loss_on_another_set_keeps_it_out() -> None:
    judged = _judged(_pair(1, 0.06), _pair(2, -0.06, name="unchanged documents'"))
    assert not judged.passed
    assert "unchanged documents'" in judged.why


def test_slow_candidates_are_kept_out_but_not_for_a_few_milliseconds() -> None:
    assert _judged(_pair(1, 0.06), ms=GATE.latency_floor_ms - 1).passed
    assert not _judged(_pair(1, 0.06), ms=GATE.latency_floor_ms + 1).passed


def test_every_further_try_is_tested_harder_and_all_together_at_alpha() -> None:
    levels = [spent_level(0.05, before) for before in range(10_000)]
    assert levels == sorted(levels, reverse=True)
    assert sum(levels) == pytest.approx(0.05, abs=1e-4)


def test_the_randomization_test_keeps_its_level() -> None:
    ps = [
        randomization_p(pair.candidate, pair.reference, pair.units, 500)
        for pair in (_pair(seed, 0.0, questions=60) for seed in range(300))
    ]
    assert np.mean(np.array(ps) <= 0.1) == pytest.approx(0.1, abs=0.05)


def test_one_document_says_nothing_of_a_loss_and_that_is_said() -> None:
    one = Paired("people's held-out", np.full(30, 0.1), np.full(30, 0.9), ["c"] * 30)
    judged = _judged(_pair(1, 0.06), one)
    assert judged.passed
    (test,) = [test for test in judged.tests if test.name == "not worse: people's held-out"]
    assert test.passed is None
    assert "too few to ask" in test.finding


@pytest.mark.parametrize("before", [0, 99, 400])
def test_what_is_clearly_better_passes_after_however_many_others(before: int) -> None:
    assert _judged(_pair(1, 0.06), before=before).passed
    assert not _judged(_pair(1, 0.0), before=before).passed


def test_where_signs_are_too_few_the_bound_that_stands_in_is_never_too_small() -> None:
    pair = _pair(3, 0.01)
    exact = randomization_p(pair.candidate, pair.reference, pair.units, 20_000)
    bound = randomization_p(pair.candidate, pair.reference, pair.units, level=1e-9)
    assert exact < bound < 1
