"""A session of judging: what waits, what each person is shown, what was said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from ragft_pipeline.corpus.gold_file import parse_gold
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.corpus.splits import unit
from ragft_pipeline.errors import RagftError
from ragft_pipeline.labelling.documents import Around, Documents
from ragft_pipeline.labelling.gold_entries import write_gold
from ragft_pipeline.labelling.hold import open_hold
from ragft_pipeline.labelling.judgements import (
    Judged,
    Judgements,
    Passage,
    agreement,
)
from ragft_pipeline.labelling.order import Waiting, disagreement, next_question
from ragft_pipeline.labelling.progress import difference, progress
from ragft_pipeline.labelling.systems import Answers, Systems
from ragft_pipeline.questions.intake import intake
from ragft_pipeline.questions.log import question_id
from ragft_pipeline.questions.log_parts import JUDGE, TRAIN, log_parts, nearly_among
from ragft_pipeline.questions.votes import read_votes, urgency
from ragft_pipeline.serving.searcher import Hit
from ragft_pipeline.settings import LogGenerator
from ragft_pipeline.store import ArtifactStore

_MOST, _POOLED, _REACH = 500, 4, 3000  # questions that are ranked, passages a system, characters
_SHARED = 0.2  # of the questions are given to everybody, so that agreement can be told


@dataclass(frozen=True)
class Candidates:
    """Questions that may be judged, by id, and those of the log that train."""

    questions: dict[str, str]
    training: dict[str, str]


def candidates(
    store: ArtifactStore, given: Iterable[str], known: Sequence[str], threshold: float
) -> Candidates:
    """Return the questions to judge: those given, and of the log and the votes what is kept.

    What trains, or may train, is never judged, nor is what is nearly that.

    Args:
        given: from a file.
        known: people's questions that there are already.
        threshold: of similarity (`split.near_duplicate`).
    """
    taken = intake(store)
    keep = taken.keep if taken.questions else LogGenerator().keep
    logged = {row["question_id"]: row["question"] for row in taken.questions}
    logged |= {question_id(vote["question"]): vote["question"] for vote in read_votes(store)}
    parts = log_parts(logged, known, keep, threshold)
    training = {name: logged[name] for name, part in parts.items() if part == TRAIN}
    asked = {question_id(question): question for question in given}
    have = {question_id(question) for question in known}
    refused = nearly_among(asked, training, threshold)
    found = {name: logged[name] for name, part in parts.items() if part == JUDGE}
    found |= {name: asked[name] for name in asked if name not in refused}
    return Candidates({name: found[name] for name in found if name not in have}, training)


class Session:
    """Judging over one store; one object may serve many threads and pages.

    Args:
        gold: the file of people's questions that is written.
        given: questions from a file.
        threshold: similarity from which two questions are nearly one (`split.near_duplicate`).
    """

    def __init__(
        self,
        store: ArtifactStore,
        systems: Systems,
        gold: Path,
        given: Sequence[str] = (),
        threshold: float = 0.8,
    ) -> None:
        self._systems, self._gold = systems, gold
        self._documents = Documents(SnapshotStore(store))
        self._judgements = Judgements(store)
        text = gold.read_text(encoding="utf-8-sig") if gold.is_file() else ""
        asked = parse_gold(text, str(gold)).asked if text.strip() else []
        mine = self._judgements.read()
        ours = {one.question for one in mine.values()}
        self._before = [one.question for one in asked if one.question not in ours]
        found = candidates(store, given, self._before, threshold)
        self._training, self._threshold = found.training, threshold
        own = {question_id(one): one for one in given}
        self.left_out = len(nearly_among(own, found.training, threshold))
        self._urgent = urgency(read_votes(store))
        self._questions = {**found.questions, **{name: one.question for name, one in mine.items()}}
        self._answers: dict[str, Answers] = {}
        self._waiting: dict[str, Waiting] = {}
        self._lock, self._stop = Lock(), Event()
        order = sorted(self._questions, key=lambda name: (-self._urgent.get(name, 0), name))
        self._order = order[:_MOST]
        self._thread = Thread(target=self._rank, name="rank-questions", daemon=True)
        self._hold = open_hold(store)
        self.write()

    def start(self) -> None:
        """Begin to rank what waits."""
        self._thread.start()

    def close(self) -> None:
        """End the session; nothing is left to be saved."""
        self._stop.set()
        self._hold.close()

    def write(self) -> int:
        """Bring the file of people's questions up to date; return how many of ours it has."""
        found = self._judgements.read()
        return write_gold(self._gold, found) if found else 0

    def _rank(self) -> None:
        for name in self._order:
            if self._stop.is_set():
                return
            self._place(name)

    def _place(self, name: str) -> None:
        found = self._answered(name)
        one, other = (found.ranking(system) for system in found.compared)
        first = found.hits[found.compared[1]]
        document = first[0].path if first else ""
        waiting = Waiting(disagreement(one, other), document, name in self._urgent)
        with self._lock:
            self._waiting[name] = waiting

    def _answered(self, name: str) -> Answers:
        if name not in self._answers:
            self._answers[name] = self._systems.answers(self._questions[name])
        return self._answers[name]

    def next(self, who: str) -> str | None:
        """Return the id of the question that a person judges next; None where none waits."""
        mine = self._judgements.read()
        with self._lock:
            ranked = dict(self._waiting)
        open_ones = {
            name for name in self._order if name not in mine or _for(who, name, mine[name])
        }
        waiting = {name: ranked[name] for name in open_ones if name in ranked}
        if not waiting and open_ones:
            name = next(name for name in self._order if name in open_ones)
            self._place(name)
            waiting = {name: self._waiting[name]}
        about = Counter(ranked[n].document for n, one in mine.items() if one.judges and n in ranked)
        return next_question(waiting, about)

    def ask(self, question: str) -> str:
        """Take a question that a person typed; return its id.

        Raises RagftError where it trains, or nearly: no question both trains and tests.
        """
        name = question_id(question)
        if nearly_among({name: question}, self._training, self._threshold):
            raise RagftError("question: one of the log that trains is this, or nearly: ask another")
        if name not in self._questions:
            self._questions[name] = question.strip()
            self._judgements.ask(question.strip(), "typed")
        if name not in self._order:
            self._order.append(name)
        return name

    def shown(self, name: str, who: str) -> dict[str, Any]:
        """Return a question with its pooled passages and what this person said of each."""
        hits = self._answered(self._known(name)).pool(name, _POOLED)
        return {
            "question_id": name,
            "question": self._questions[name],
            **self._said(name, who, hits),
        }

    def find(self, name: str, who: str, words: str) -> dict[str, Any]:
        """Return the passages that what is served finds for other words."""
        return self._said(self._known(name), who, self._systems.served.search(words))

    def _said(self, name: str, who: str, hits: Iterable[Hit]) -> dict[str, Any]:
        mine = self._judgements.read().get(name, Judged(self._questions[name]))
        passages = []
        for hit in hits:
            place = self._passage(hit.node_id)
            said = mine.passages.get(place, {}).get(who)
            marks = None
            if said is not None and said.marked:
                begin = said.start - place.start
                marks = [begin, begin + len(said.text)]
            passages.append(
                {
                    "node_id": hit.node_id, "text": hit.text, "title": hit.title,
                    "heading": hit.heading, "path": place.doc,
                    "grade": said.grade if said else None, "marked": marks,
                }
            )  # fmt: skip
        return {"passages": passages, "ended": mine.ended.get(who, "")}

    def around(self, node_id: str) -> Around:
        """Return a passage in its document."""
        searcher = self._systems.searcher_with(node_id)
        return self._documents.around(searcher, node_id, _REACH)

    def judge(
        self, who: str, name: str, node_id: str, grade: int, marked: tuple[int, int] | None
    ) -> None:
        """Keep what a person says of a passage; it is on the disk when this returns.

        Args:
            marked: the characters of the passage that answer.

        Raises RagftError for a question or a passage that there is not.
        """
        question = self._questions[self._known(name)]
        place, text = self._passage(node_id), self.around(node_id).text
        start, end = marked or (0, len(text))
        if not (0 <= start < end <= len(text)):
            raise RagftError("marked: no characters of the passage")
        words = text[start:end]
        at = place.start + start
        self._judgements.judge(who, question, place, grade, words, at, marked is not None)
        if self._judgements.read()[name].judges:
            self.write()

    def end(self, who: str, name: str, how: str) -> None:
        """Keep how a person left a question, and write the file where that changes it."""
        name = self._known(name)
        mine = self._judgements.read()
        if name not in mine or not mine[name].picked:
            self._judgements.ask(
                self._questions[name], "vote" if name in self._urgent else "disagreement"
            )
        self._judgements.end(who, self._questions[name], how)
        self.write()

    def progress(self) -> dict[str, Any]:
        """Return how far judging is, and how far people agree."""
        mine = self._judgements.read()
        found: list[tuple[float, str]] = []
        for name, one in mine.items():
            grades = self._grades(one)
            if not one.judges or not any(grades.values()):
                continue
            self._questions.setdefault(name, one.question)
            answers = self._answered(name)
            one_of, other = (answers.ranking(system) for system in answers.compared)
            apart = difference(one_of, other, grades)
            if apart is not None:
                document = next(p.doc for p, _, grade in one.answers() if grade)
                found.append((apart, document))
        done = progress([apart for apart, _ in found], [doc for _, doc in found], len(self._before))
        pairs, share = agreement(mine.values())
        return {
            "judged": done.judged, "needed": done.needed, "gain": done.gain, "words": str(done),
            "waiting": sum(name not in mine or not mine[name].ended for name in self._order),
            "agreement": {"passages": pairs, "share": share},
            "people": dict(Counter(who for one in mine.values() for who in one.ended)),
        }  # fmt: skip

    def _grades(self, one: Judged) -> Mapping[str, int]:
        places = {passage: grade for passage, _, grade in one.answers()}
        nodes = self._nodes_of_places()
        return {nodes[place]: grade for place, grade in places.items() if place in nodes}

    def _nodes_of_places(self) -> dict[Passage, str]:
        if not hasattr(self, "_places"):
            served = self._systems.served
            self._places = {self._passage(node): node for node in served.node_ids}
        return self._places

    def _passage(self, node_id: str) -> Passage:
        return self._documents.passage(self._systems.searcher_with(node_id), node_id)

    def _known(self, name: str) -> str:
        if name not in self._questions:
            raise RagftError("question_id: no such question")
        return name


def _for(who: str, name: str, one: Judged) -> bool:
    """Say whether a question that was judged before is still this person's to judge."""
    if who in one.ended:
        return False
    return not one.ended or set(one.ended.values()) == {"skip"} or unit(f"both:{name}") < _SHARED
