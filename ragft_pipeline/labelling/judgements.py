"""What people judged: a journal that only grows, and what it says now.

Each judgement is one row and on the disk before the page goes on. A later row of the same person
about the same passage replaces the earlier one, so that nothing is ever overwritten.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low
from typing import Any

from ragft_pipeline.questions.log import question_id
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.journal import Journal

DONE, SKIPPED, NOWHERE = "done", "skip", "nowhere"
NO, PARTLY, ANSWERS = 0, 1, 2
Row = dict[str, Any]


def judgements_file(store: ArtifactStore) -> Path:
    """Return where this machine keeps the judgements of a store, as JSON lines."""
    return store.root / "questions" / "judgements.jsonl"


@dataclass(frozen=True)
class Passage:
    """A passage where it stands: its document, and the characters of that file as it was read."""

    doc: str
    start: int
    end: int


@dataclass(frozen=True)
class Judgement:
    """What a person said of a passage: the grade, and the words that answer, where marked."""

    who: str
    grade: int
    text: str
    start: int
    marked: bool


@dataclass
class Judged:
    """A question and all that was said of it.

    Attributes:
        passages: by passage and person.
        ended: by person, how they left it.
        picked: why it was asked: `disagreement`, `vote`, `typed`.
    """

    question: str
    picked: str = ""
    passages: dict[Passage, dict[str, Judgement]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    @property
    def judges(self) -> list[str]:
        """Who came to an end with it by judging passages."""
        return sorted(who for who, how in self.ended.items() if how == DONE)

    def grade(self, passage: Passage) -> int:
        """Return what the people who were done with the question agree on; the lower of two."""
        return median_low([one.grade for one in self._of_the_done(passage)])

    def answers(self) -> list[tuple[Passage, Judgement, int]]:
        """Return each judged passage with the words and the grade, the best first.

        Of a passage that answers, the words that somebody marked; else all of it.
        """
        found = []
        for passage in self.passages:
            said = self._of_the_done(passage)
            if not said:
                continue
            grade = self.grade(passage)
            positive = [one for one in said if one.grade > NO] if grade else said[:1]
            marked = [one for one in positive if one.marked] or positive[:1]
            spans = {(one.start, one.text): one for one in marked}
            found += [(passage, one, grade) for one in spans.values()]
        return sorted(found, key=lambda one: (-one[2], one[0].doc, one[1].start))

    def _of_the_done(self, passage: Passage) -> list[Judgement]:
        said = self.passages[passage]
        return [said[who] for who in sorted(said) if self.ended.get(who) == DONE]


class Judgements:
    """The judgements of a store; an object may be used by many threads."""

    def __init__(self, store: ArtifactStore) -> None:
        self._journal = Journal(judgements_file(store))

    def ask(self, question: str, picked: str) -> None:
        """Note that a question is judged."""
        self._add("", question, kind="question", picked=picked)

    def judge(
        self, who: str, question: str, passage: Passage, grade: int, text: str, start: int,
        marked: bool,
    ) -> None:  # fmt: skip
        """Keep what a person says of a passage.

        Args:
            text: the words that answer, from the character `start` of the document; of a passage
                without a mark all of it.
        """
        said = {"grade": grade, "text": text, "start": start, "marked": marked}
        self._add(who, question, kind="passage", passage=vars(passage), **said)

    def end(self, who: str, question: str, how: str) -> None:
        """Keep how a person left a question: DONE, SKIPPED or NOWHERE."""
        self._add(who, question, kind="end", how=how)

    def _add(self, who: str, question: str, **what: Any) -> None:
        self._journal.append({"who": who, "question": question, "time": time.time(), **what})

    def read(self) -> dict[str, Judged]:
        """Return what was said so far, by question id, in the order in which they came up."""
        return judged(self._journal.read())


def judged(rows: Iterable[Row]) -> dict[str, Judged]:
    """Return what the rows of a journal say, by question id."""
    found: dict[str, Judged] = {}
    for row in rows:
        own = found.setdefault(question_id(row["question"]), Judged(row["question"]))
        if row["kind"] == "question":
            own.picked = own.picked or row["picked"]
        elif row["kind"] == "end":
            own.ended[row["who"]] = row["how"]
        elif row["kind"] == "passage":
            said = Judgement(row["who"], row["grade"], row["text"], row["start"], row["marked"])
            own.passages.setdefault(Passage(**row["passage"]), {})[row["who"]] = said
    return found


def agreement(found: Iterable[Judged]) -> tuple[int, float]:
    """Return of how many passages two people judged the same one, and the share that agree.

    Agreeing is that it answers at all, or does not.
    """
    pairs = [
        (one.grade > NO, other.grade > NO)
        for question in found
        for said in question.passages.values()
        for place, one in enumerate(said.values())
        for other in list(said.values())[place + 1 :]
    ]
    return len(pairs), sum(one == other for one, other in pairs) / len(pairs) if pairs else 0.0
