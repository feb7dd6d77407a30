"""Sets of questions, and which nodes count as right for each question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

SERVED = "as_served"  # people's questions, asked of what a release serves
TOMORROW = "tomorrow"  # those about held-out documents, of models that never saw these
SYNTHETIC = "synthetic_test"
PEOPLE = "people"
_VERBATIM = ("claim", "keywords")  # question kinds that are cut out of their node word for word


@dataclass(frozen=True)
class QuestionSet:
    """Questions with the grades of their judged nodes (as indices into the evaluated nodes).

    A node with a grade above 0 answers; one with 0 was judged not to.
    """

    name: str
    ids: list[str]
    texts: list[str]
    clusters: list[str]
    held_out: list[bool]
    judged: list[dict[int, int]]

    @classmethod
    def empty(cls) -> QuestionSet:
        """Return a set without questions."""
        return cls("none", [], [], [], [], [])

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def relevant(self) -> list[frozenset[int]]:
        """The nodes that answer each question."""
        return [frozenset(n for n, grade in own.items() if grade > 0) for own in self.judged]

    def by_id(self) -> dict[str, str]:
        """Return question id to text."""
        return dict(zip(self.ids, self.texts))

    def first(self, limit: int) -> QuestionSet:
        """Return `limit` of the questions: held-out documents' first, then by hash."""
        keep = sorted(range(len(self)), key=lambda i: (not self.held_out[i], self.ids[i]))[:limit]
        return self.at(keep)

    def at(self, places: Iterable[int]) -> QuestionSet:
        """Return the questions at some places, in their order."""
        keep = list(places)

        def pick(values: list[Any]) -> list[Any]:
            return [values[i] for i in keep]

        return QuestionSet(
            self.name, pick(self.ids), pick(self.texts), pick(self.clusters),
            pick(self.held_out), pick(self.judged),
        )  # fmt: skip


class RelevanceIndex:
    """Which nodes hold a span of a document."""

    def __init__(self, nodes: pa.Table, column: dict[str, int]) -> None:
        self._by_document: dict[str, list[tuple[int, int, int]]] = {}
        for node_id, doc_key, start, end in zip(
            *(
                nodes.column(name).to_pylist()
                for name in ("node_id", "doc_key", "start_char", "end_char")
            )
        ):
            self._by_document.setdefault(doc_key, []).append((start, end, column[node_id]))

    def nodes_with(self, doc_key: str, spans: Sequence[tuple[int, int]]) -> frozenset[int]:
        """Return the nodes that hold a span; of a span that none holds, those that share it.

        These lie within it, or have at least half of it; else the first in which it starts.
        """
        places = self._by_document.get(doc_key, [])
        found: set[int] = set()
        for start, end in spans:
            holding = {node for low, high, node in places if low <= start and end <= high}
            sharing = holding or {
                node
                for low, high, node in places
                if (start <= low and high <= end)
                or 2 * (min(high, end) - max(low, start)) >= end - start
            }
            found |= sharing or {node for low, high, node in places if low <= start < high}
        return frozenset(found)

    def answering(self, gold: dict[str, Any]) -> frozenset[int]:
        """Return the nodes that answer a GOLD_QUESTIONS row: by its spans, or whole documents'."""
        found = {
            node for key in gold["whole"] or () for _, _, node in self._by_document.get(key, [])
        }
        spans: dict[str, list[tuple[int, int]]] = {}
        for answer in gold["answers"] or ():
            key = answer["doc_key"] or gold["doc_key"]
            spans.setdefault(key, []).append((answer["start"], answer["end"]))
        return frozenset(found).union(*(self.nodes_with(key, own) for key, own in spans.items()))

    def grades(self, gold: dict[str, Any]) -> dict[int, int]:
        """Return how well each judged node answers a GOLD_QUESTIONS row; 0: it does not.

        A node takes the best grade of the spans that it holds; grades that a row does not give
        are 1. The nodes with a grade above 0 are those of `answering`.
        """
        graded = [
            (node, grade)
            for key, grade in zip(gold["whole"] or (), gold.get("whole_grades") or repeat(1))
            for _, _, node in self._by_document.get(key, [])
        ]
        for answer in gold["answers"] or ():
            span = (answer["start"], answer["end"])
            grade = answer.get("grade")
            for node in self.nodes_with(answer["doc_key"] or gold["doc_key"], [span]):
                graded.append((node, 1 if grade is None else grade))
        found = {
            node: 0
            for one in gold.get("rejected") or ()
            for node in self.nodes_with(one["doc_key"], [(one["start"], one["end"])])
        }
        for node, grade in graded:
            found[node] = max(grade, found.get(node, 0))
        return found


def nodes_asked_about(nodes: pa.Table, gold: pa.Table, pairs: pa.Table) -> pa.Table:
    """Return the rows of a NODES table in documents that questions are about or were judged on."""
    keys = {*gold.column("doc_key").to_pylist(), *pairs.column("doc_key").to_pylist()}
    for row in gold.to_pylist():
        keys.update(row["whole"] or ())
        placed = (*(row["answers"] or ()), *(row.get("rejected") or ()))
        keys.update(one["doc_key"] for one in placed)
    return nodes.filter(pc.is_in(nodes.column("doc_key"), pa.array(keys, pa.string())))


def synthetic_set(
    name: str, pairs: pa.Table, index: RelevanceIndex, column: dict[str, int], held_out: bool
) -> QuestionSet:
    """Return the synthetic questions of a QA_PAIRS table; of equal ones, one with all nodes."""
    rows = pairs.sort_by("question_id").to_pylist()
    asked: dict[str, dict[str, Any]] = {}
    relevant: dict[str, frozenset[int]] = {}
    for row in rows:
        own = index.nodes_with(row["doc_key"], [(row["answer_start"], row["answer_end"])])
        question = row["question"]
        asked.setdefault(question, row)
        relevant[question] = relevant.get(question, frozenset()) | own | {column[row["node_id"]]}
    first = list(asked.values())
    return QuestionSet(
        name,
        [row["question_id"] for row in first],
        [row["question"] for row in first],
        [row["cluster"] for row in first],
        [held_out] * len(first),
        [dict.fromkeys(relevant[row["question"]], 1) for row in first],
    )


def with_held_out(rows: pa.Table, question_set: str, name: str) -> pa.Table:
    """Return a set's rows about documents that no model was trained on, as a set of its own.

    Args:
        rows: a table with the columns `question_set` and `held_out`.
        name: what the set is to be called.
    """
    found = rows.filter(
        pc.and_(rows.column("held_out"), pc.equal(rows.column("question_set"), question_set))
    )
    column = rows.schema.get_field_index("question_set")
    names = pa.array([name] * found.num_rows, pa.string())
    return found.set_column(column, rows.schema.field(column), names)


def in_own_words(pairs: pa.Table) -> pa.Table:
    """Return the QA_PAIRS that are not cut out of their node: those may choose between rankers."""
    verbatim = pc.is_in(pairs.column("kind"), value_set=pa.array(_VERBATIM))
    return pairs.filter(pc.invert(verbatim))


def questions_that_choose(
    gold: pa.Table,
    val_pairs: pa.Table,
    nodes: pa.Table,
    column: dict[str, int],
    enough: int,
    held_out: bool = False,
    most: int = 1000,
) -> QuestionSet:
    """Return what may choose how a model is made, and never trains it.

    People's questions about train and val documents where there are enough, else val questions in
    their own words where these are enough, else none: a handful proves nothing. A choice by
    people's questions must not depend on those of any one fold (`folds.agreed`), or be made anew
    without each fold for its questions.

    Args:
        gold: GOLD_QUESTIONS.
        val_pairs: QA_PAIRS of val.
        nodes: NODES that the questions are searched among; `column` is the place of each.
        enough, most: how many questions a set has at least, and at most.
        held_out: whether people's questions about test documents choose too.
    """
    index = RelevanceIndex(nodes, column)
    choosing = gold if held_out else gold.filter(pc.not_equal(gold.column("split"), "test"))
    people = gold_set(PEOPLE, choosing, index)
    own_words = synthetic_set("synthetic_val", in_own_words(val_pairs), index, column, False)
    found = (questions for questions in (people, own_words) if len(questions) >= enough)
    return next(found, QuestionSet.empty()).first(most)


def unseen(pairs: pa.Table, trained: pa.Table) -> pa.Table:
    """Return the QA_PAIRS whose question does not stand word for word among the trained ones."""
    known = trained.column("question")
    return pairs.filter(pc.invert(pc.is_in(pairs.column("question"), value_set=known)))


def first_asked(pairs: pa.Table, number: int) -> pa.Table:
    """Return the QA_PAIRS of the first questions by their ids; equal questions count once."""
    texts = pairs.sort_by("question_id").column("question")
    return pairs.filter(pc.is_in(pairs.column("question"), value_set=pc.unique(texts)[:number]))


def gold_set(name: str, gold: pa.Table, index: RelevanceIndex) -> QuestionSet:
    """Return the people's questions that some node answers."""
    rows = []
    for row in gold.sort_by("question_id").to_pylist():
        grades = index.grades(row)
        if any(grades.values()):
            rows.append((row, grades))
    return QuestionSet(
        name,
        [row["question_id"] for row, _ in rows],
        [row["question"] for row, _ in rows],
        [row["cluster"] for row, _ in rows],
        [row["split"] == "test" for row, _ in rows],
        [grades for _, grades in rows],
    )
