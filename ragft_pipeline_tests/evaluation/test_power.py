"""What a set of questions can see, against simulated tests."""

from __future__ import annotations

import numpy as np
import pytest

from ragft_pipeline.evaluation.power import gain_seen, power_sentence, questions_needed
from ragft_pipeline.evaluation.significance import randomization_p

LEVEL = 0.025


def _differences(seed: int, questions: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.25, questions)


def test_a_gain_of_that_size_is_seen_in_four_of_five_cases() -> None:
    units = [str(number) for number in range(80)]
    seen = []
    for seed in range(150):
        differences = _differences(seed, 80)
        shifted = differences - differences.mean() + gain_seen(differences, units, LEVEL)
        drawn = np.random.default_rng(seed).choice(shifted, 80)
        seen.append(randomization_p(drawn, np.zeros(80), units, 500, level=LEVEL) <= LEVEL)
    assert np.mean(seen) == pytest.approx(0.8, abs=0.1)


def test_four_times_the_questions_see_half_the_gain() -> None:
    few = gain_seen(_differences(1, 400), [str(n) for n in range(400)], LEVEL)
    many = gain_seen(_differences(1, 1600), [str(n) for n in range(1600)], LEVEL)
    assert many == pytest.approx(few / 2, rel=0.2)


def test_questions_about_the_same_documents_see_less() -> None:
    random = np.random.default_rng(1)
    documents = np.repeat(random.normal(0, 0.25, 20), 10)
    alone = [str(number) for number in range(200)]
    together = [str(number // 10) for number in range(200)]
    assert gain_seen(documents, together, LEVEL) > 2 * gain_seen(documents, alone, LEVEL)


def test_people_are_told_whether_to_write_more() -> None:
    differences = _differences(1, 75)
    units = [str(number // 4) for number in range(75)]
    said = power_sentence(differences, units, "19 documents", LEVEL)
    more = questions_needed(differences, units, 0.04, LEVEL) - 75
    assert said.startswith("With these 75 questions about 19 documents a gain under 0.")
    assert said.endswith(f"about {more} more would see 0.04.")
    sure = power_sentence(differences / 100, units, "19 documents", LEVEL)
    assert sure.endswith("is usually missed.")
