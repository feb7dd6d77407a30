"""What several people said, as gold questions; what decides most comes first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragft_pipeline.corpus.gold_file import parse_gold
from ragft_pipeline.evaluation.power import GOAL
from ragft_pipeline.labelling.gold_entries import gold_entry, write_gold
from ragft_pipeline.labelling.judgements import (
    DONE,
    NOWHERE,
    SKIPPED,
    Judgements,
    Passage,
    agreement,
)
from ragft_pipeline.labelling.order import Waiting, disagreement, next_question
from ragft_pipeline.labelling.progress import difference, progress
from ragft_pipeline.questions.log import question_id
from ragft_pipeline.store import ArtifactStore

Q = "When does it open?"
NAME = question_id(Q)
ONE, TWO = Passage("a.md", 10, 40), Passage("b.md", 0, 20)


@pytest.fixture
def judgements(tmp_path: Path) -> Judgements:
    return Judgements(ArtifactStore(tmp_path / "store"))


def say(judgements: Judgements, who: str, passage: Passage, grade: int, mark: str = "") -> None:
    text, start = (mark, passage.start + 3) if mark else ("all of it", passage.start)
    judgements.judge(who, Q, passage, grade, text, start, bool(mark))


def test_the_last_word_of_each_person_counts_and_the_lower_middle_of_several(
    judgements: Judgements,
) -> None:
    judgements.ask(Q, "vote")
    for who, first, second in (("ada", 0, 0), ("ben", 2, 0), ("cy", 1, 2)):
        say(judgements, who, ONE, first)
        say(judgements, who, TWO, second)
        judgements.end(who, Q, DONE)
    say(judgements, "ada", ONE, 2, "six bar")
    say(judgements, "dan", ONE, 0)  # who is not done yet
    (found,) = judgements.read().values()
    assert (found.grade(ONE), found.grade(TWO), found.picked) == (2, 0, "vote")
    assert found.judges == ["ada", "ben", "cy"]
    assert agreement([found]) == (9, pytest.approx(4 / 9))
    entry = gold_entry(NAME, found)
    assert entry == {
        "id": NAME[:12], "question": Q, "doc": ["a.md"], "picked": "vote",
        "judged_by": ["ada", "ben", "cy"],
        "answers": [
            {"doc": "a.md", "text": "six bar", "answer_start": 13, "grade": 2},
            {"doc": "b.md", "text": "all of it", "answer_start": 0, "grade": 0},
        ],
    }  # fmt: skip
    (asked,) = parse_gold(json.dumps(entry)).asked
    assert [(a.text, a.start, a.docs, a.grade) for a in asked.answers] == [
        ("six bar", 13, ("a.md",), 2), ("all of it", 0, ("b.md",), 0),
    ]  # fmt: skip


@pytest.mark.parametrize("how", [SKIPPED, NOWHERE, None])
def test_a_question_that_nobody_came_to_an_end_with_is_no_gold(
    judgements: Judgements, how: str | None
) -> None:
    say(judgements, "ada", ONE, 2)
    if how:
        judgements.end("ada", Q, how)
    (found,) = judgements.read().values()
    assert gold_entry(NAME, found) is None


def test_lines_that_people_wrote_stay_as_they_are(judgements: Judgements, tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    own = ['{"question":  "Mine?", "doc": "a.md"}', "not json", '{"judged_by": ["x"], "id": "y"}']
    file.write_text("\n".join(own), encoding="utf-8")
    say(judgements, "ada", ONE, 1)
    judgements.end("ada", Q, DONE)
    assert write_gold(file, judgements.read()) == 1
    again = file.read_bytes()
    assert write_gold(file, judgements.read()) == 1
    assert file.read_bytes() == again
    lines = again.decode().split("\n")
    assert lines[:3] == own
    assert json.loads(lines[3])["question"] == Q
    say(judgements, "ada", ONE, 0)  # thought better of: the line goes
    assert write_gold(file, judgements.read()) == 0
    assert file.read_text(encoding="utf-8").split("\n")[:-1] == own


def test_what_two_systems_answer_alike_decides_nothing() -> None:
    ten = [f"n{n}" for n in range(10)]
    assert disagreement(ten, ten) == 0
    assert disagreement(ten, [f"m{n}" for n in range(10)]) == pytest.approx(1)
    swapped = [ten[1], ten[0], *ten[2:]]
    assert 0 < disagreement(ten, swapped) < disagreement(ten, [*ten[5:], *ten[:5]]) < 1


def test_disagreement_and_votes_come_first_and_documents_take_turns() -> None:
    waiting = {
        "same": Waiting(0.1, "a"), "apart": Waiting(0.8, "a"), "voted": Waiting(0.2, "b", True),
        "other": Waiting(0.5, "c"),
    }  # fmt: skip
    order, about = [], {"a": 0}
    while (name := next_question(waiting, about)) is not None:
        order.append(name)
        document = waiting.pop(name).document
        about[document] = about.get(document, 0) + 1
    assert order == ["apart", "voted", "other", "same"]


def test_progress_says_how_many_are_needed_by_their_own_spread() -> None:
    few = progress([0.1] * 3, list("abc"), before=20)
    assert (few.judged, few.mean) == (23, None)
    assert str(few).startswith("23 of about ")
    assert str(few).endswith("for a gain of .04")
    units = [str(n) for n in range(20)]
    calm, wild = ([n % 2 * size for n in range(20)] for size in (0.1, 0.8))
    assert progress(calm, units).needed < progress(wild, units).needed
    assert progress(calm, units).gain == GOAL


def test_a_difference_is_of_what_was_judged() -> None:
    assert difference(["x"], ["y"], {"x": 0}) is None
    assert difference(["x", "y"], ["y", "x"], {"x": 2}) == pytest.approx(1 - 1 / 1.58496, abs=1e-4)
    assert difference(["u"], ["x"], {"x": 1}) == -1
