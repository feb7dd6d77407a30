from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ragft_pipeline.questions.drafts import Draft
from ragft_pipeline.questions.filters import (
    Candidate,
    deictic,
    filter_candidates,
    grounding,
    malformed,
    word_count,
)
from ragft_pipeline.settings import QuestionSettings

TEXT = "The duty engineer starts the boiler feed pump at 6 bar."
SETTINGS = QuestionSettings(round_trip_top_k=0)


def candidate(question: str, kind: str = "llm") -> Candidate:
    return Candidate(question, "n", kind, Draft(question, kind, 0, len(TEXT)))


def no_ranks(candidates: Sequence[Candidate]) -> np.ndarray:
    raise AssertionError("nothing should be searched")


@pytest.mark.parametrize(
    ("question", "bad"),
    [
        ("Who starts the pump?", False),
        ("Why?", True),
        ("word " * 49, True),
        ("word " * 48, False),
        ("??? !!! --- ### pump a b", True),
        ("谁启动锅炉的给水泵", False),
        ("谁启动", True),
        ("पंप की सफाई कौन करता है?", False),
        ("பம்பை யார் சுத்தம் செய்கிறார்?", False),
        ("ใครเป็นคนทำความสะอาดปั๊มน้ำ", False),
        ("ใคร", True),
        ("", True),
    ],
)
def test_questions_must_be_made_of_enough_words(question: str, bad: bool) -> None:
    assert malformed(question, SETTINGS) is bad


def test_words_are_counted_in_any_script() -> None:
    assert word_count("启动锅炉 pump") == 3
    assert word_count("पंप का पानी") == 3
    assert word_count("ปิดปั๊มลม") == 2  # six letters, three marks


@pytest.mark.parametrize(
    ("question", "points"),
    [
        ("What does this passage say about pumps?", True),
        ("What is the main idea of the provided text?", True),
        ("Which pump is mentioned above?", True),
        ("What does the author mean by pressure?", True),
        ("本文介绍了什么泵？", True),
        ("根据文章，谁启动泵？", True),
        ("Which document must the engineer sign?", False),
        ("What is a pressure section?", False),
        ("谁启动给水泵？", False),
    ],
)
def test_questions_that_point_at_their_passage_are_told(question: str, points: bool) -> None:
    assert deictic(question) is points


def test_grounding_is_the_share_of_terms_in_the_text() -> None:
    assert grounding("Which engineers started pumps?", TEXT) == pytest.approx(2 / 3, abs=0.35)
    assert grounding("boiler feed pump", TEXT) == 1.0
    assert grounding("capital of France", TEXT) == 0.0
    assert grounding("the of", TEXT) == 0.0
    assert grounding("锅炉检修", "锅炉每年检修一次") == pytest.approx(2 / 3)


def test_each_filter_counts_what_it_turns_away() -> None:
    candidates = [
        candidate("Who starts the feed pump?"),
        candidate("Why?"),
        candidate("What does this passage say of pumps?"),
        candidate("What is the capital of France?"),
        candidate("who starts the FEED pump"),
    ]
    kept, turned_away = filter_candidates(candidates, {"n": TEXT}, SETTINGS, no_ranks)
    assert kept == candidates[:1]
    assert turned_away == {"malformed": 1, "deictic": 1, "ungrounded": 1, "duplicate": 1}


def test_questions_that_differ_by_a_vowel_sign_are_two() -> None:
    asked = [candidate(f"पंप में {word} कब डालें", "claim") for word in ("पानी", "पान")]
    kept, _ = filter_candidates(asked, {"n": TEXT}, SETTINGS, no_ranks)
    assert kept == asked


@pytest.mark.parametrize("kind", ["claim", "keywords", "heading", "imported"])
def test_only_generated_questions_must_be_grounded(kind: str) -> None:
    kept, _ = filter_candidates(
        [candidate("capital city of France", kind)], {"n": TEXT}, SETTINGS, no_ranks
    )
    assert len(kept) == 1


def test_the_source_must_come_back_in_the_round_trip() -> None:
    candidates = [candidate(f"Who starts feed pump {number}?") for number in range(4)]

    def ranks(asked: Sequence[Candidate]) -> np.ndarray:
        assert list(asked) == candidates
        return np.array([0, 19, 20, 500])

    settings = QuestionSettings(round_trip_top_k=20)
    kept, turned_away = filter_candidates(candidates, {"n": TEXT}, settings, ranks)
    assert kept == candidates[:2]
    assert turned_away["round_trip"] == 2


def test_of_very_many_questions_no_more_are_searched_than_are_needed() -> None:
    candidates = [
        Candidate(f"{9 - n}", "n", "extractive", candidate(f"Who starts feed pump {n}?").draft)
        for n in range(10)
    ]
    asked: list[str] = []

    def ranks(batch: Sequence[Candidate]) -> np.ndarray:
        asked.extend(one.question_id for one in batch)
        return np.array([int(one.question_id) % 2 * 99 for one in batch])

    settings = QuestionSettings(max_pairs=2)
    kept, turned_away = filter_candidates(candidates, {"n": TEXT}, settings, ranks)
    assert asked == ["0", "1", "2", "3"]
    assert [one.question_id for one in kept] == ["0", "2"]
    assert (turned_away["round_trip"], turned_away["over_max_pairs"]) == (2, 6)


def test_nothing_is_searched_where_nothing_is_left() -> None:
    kept, turned_away = filter_candidates([candidate("Why?")], {}, QuestionSettings(), no_ranks)
    assert kept == []
    assert "round_trip" not in turned_away


def test_an_imported_question_is_asked_of_each_of_its_nodes() -> None:
    asked = "When does the valve of the pump open?"
    drafts = [("n1", "imported"), ("n2", "imported"), ("n2", "imported"), ("n3", "claim")]
    candidates = [
        Candidate(f"q{n}", node_id, "import", Draft(asked, kind, 0, 5))
        for n, (node_id, kind) in enumerate(drafts)
    ]
    texts = dict.fromkeys(("n1", "n2", "n3"), asked)
    for order in (candidates, candidates[::-1]):
        kept, turned_away = filter_candidates(order, texts, SETTINGS, no_ranks)
        nodes = {candidate.node_id for candidate in kept}
        assert nodes == ({"n1", "n2"} if order is candidates else {"n3"})
        assert turned_away["duplicate"] == 4 - len(kept)
