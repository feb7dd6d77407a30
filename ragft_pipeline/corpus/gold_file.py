"""The file of people's questions: JSON lines, a JSON array, or a table (CSV, TSV) with a head.

An entry has a question, the document or documents that answer it, and, where known, what in them
answers: `answer_text` with `answer_start`, or `answers` (texts, objects of both, or SQuAD's
lists). An answer may have a `grade` (1 where none is given; 0: this was judged not to answer) and
documents of its own; one without a text is all of its documents. Other common names of these keys
are read where they can mean nothing else.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ragft_pipeline.errors import RagftError

_QUESTION = ("question", "query", "text", "user_input")
_DOCS = ("doc", "docs", "document", "documents", "path", "file", "source")
_ANSWERS = ("answers", "answer_text", "answer")
_START = "answer_start"
_NAMES = ("id", "_id", "question_id")
_HIGHEST = 1000
EXPECTED = (
    'give JSON lines, a JSON array or a CSV with the keys question, doc and answer_text: '
    '{"question": "When does the valve open?", "doc": "guides/valve.md", "answer_text": "six bar"}'
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What answers, where in its document's text if known, and in which if not in any.

    Without a text it is all of its documents. Grade 0 says that this does not answer.
    """

    text: str
    start: int | None = None
    docs: tuple[str, ...] = ()
    grade: int = 1


@dataclass(frozen=True)
class Asked:
    """One entry of the file: where it stands, the question, its documents, its answers.

    `name` is the entry's own id, if it has one.
    """

    place: str
    question: str
    docs: tuple[str, ...]
    answers: tuple[Answer, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class LeftOut:
    """An entry that is not used: where it stands, what it asks, a word and a phrase for why."""

    place: str
    question: str
    reason: str
    detail: str


@dataclass
class GoldFile:
    """What a file of questions holds."""

    asked: list[Asked] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


class _Unusable(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def parse_gold(text: str, name: str = "gold questions") -> GoldFile:
    """Return the questions of a file, and its entries that are none.

    Raises RagftError where not one entry is a question: the file is of another kind.
    """
    found = GoldFile()
    for place, raw in _entries(text, name):
        try:
            found.asked.append(_asked(place, raw))
        except _Unusable as error:
            question = raw.get("question") if isinstance(raw, dict) else None
            shown = question if isinstance(question, str) and _is_text(question) else ""
            found.left_out.append(LeftOut(place, shown, error.reason, error.detail))
    if found.left_out and not found.asked:
        first = found.left_out[0]
        raise RagftError(
            f"{name}: 0 of {len(found.left_out)} entries are questions "
            f"({first.place}: {first.detail}); {EXPECTED}"
        )
    return found


def _entries(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """Yield where each entry stands, and what it is: an _Unusable's detail where it is no JSON."""
    start = text.lstrip()[:1]
    if start and start not in "[{":
        head = text.lstrip().split("\n", 1)[0]
        for delimiter in ("\t", ",", ";"):
            names = [_key(cell.strip().strip('"')) for cell in head.split(delimiter)]
            if set(names) & set(_QUESTION) and set(names) & set(_DOCS):
                yield from _table(text, delimiter)
                return
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    whole = _whole(text) if start in ("[", "{") else None
    if isinstance(whole, dict) and {"queries", "corpus", "relevant_docs"} <= whole.keys():
        raise RagftError(
            f"{name} is an EmbeddingQAFinetuneDataset JSON: name it in questions.generators, as "
            f"{{kind: import, path: …}}; for people's questions, {EXPECTED}"
        )
    if isinstance(whole, dict) and not set(map(_key, whole)) & set(_QUESTION):
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 else whole
    if isinstance(whole, dict) and len(lines) > 1:
        whole = [whole]
    if isinstance(whole, list):
        yield from ((f"entry {n}", entry) for n, entry in enumerate(whole, 1))
        return
    for number, line in lines:  # not splitlines: JSON strings may hold U+2028
        yield f"line {number}", _json(line)


def _whole(text: str) -> list[Any] | dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list | dict) else None


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _Unusable("malformed_line", "is not JSON")


def _table(text: str, delimiter: str) -> Iterator[tuple[str, Any]]:
    rows = csv.DictReader(io.StringIO(text.lstrip(), newline=""), delimiter=delimiter)
    try:
        for row in rows:
            given = {key: value for key, value in row.items() if key and value}
            if given:
                yield f"line {rows.line_num}", given
    except csv.Error as error:
        yield f"line {rows.line_num}", _Unusable("malformed_line", f"is no row ({error})")


def _asked(place: str, raw: Any) -> Asked:
    if isinstance(raw, _Unusable):
        raise raw
    if not isinstance(raw, dict):
        raise _Unusable("malformed_line", "is not an object")
    entry = {_key(key): value for key, value in raw.items()}
    question = next((entry[key] for key in _QUESTION if key in entry), None)
    if not isinstance(question, str) or not question.strip():
        raise _Unusable("no_question", "has no question")
    answers = tuple(_answers(entry))
    docs = _docs(entry)
    if not docs and not any(answer.docs for answer in answers):
        raise _Unusable("no_document", "names no document (doc)")
    name = str(next((entry[key] for key in _NAMES if isinstance(entry.get(key), str | int)), ""))
    named = (name, *docs, *(doc for answer in answers for doc in answer.docs))
    if not all(map(_is_text, (question, *named, *(a.text for a in answers)))):
        raise _Unusable("malformed_line", "holds half a character")
    return Asked(place, question.strip(), docs, answers, name)


def _key(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _docs(entry: dict[str, Any]) -> tuple[str, ...]:
    key, given = next(((k, entry[k]) for k in _DOCS if entry.get(k) is not None), ("", []))
    found = given if isinstance(given, list) else [given]
    if not all(isinstance(one, str) for one in found):
        raise _Unusable("malformed_line", f"{key} is neither a path nor a list of paths")
    return tuple(dict.fromkeys(one.strip() for one in found if one.strip()))


def _answers(entry: dict[str, Any]) -> Iterator[Answer]:
    given = next((entry[key] for key in _ANSWERS if entry.get(key) is not None), None)
    if isinstance(given, dict):  # SQuAD as datasets keep it: lists beside each other
        texts, starts = given.get("text"), given.get(_START)
        if isinstance(texts, list):
            starts = starts if isinstance(starts, list) else [None] * len(texts)
            given = [{"text": t, _START: s} for t, s in zip(texts, starts)]
        else:
            given = [given]
    if isinstance(given, str | type(None)):
        given = [{"text": given, _START: entry.get(_START), "grade": entry.get("grade")}]
    if not isinstance(given, list):
        raise _Unusable("malformed_line", "its answers are no texts")
    for one in ({"text": one} if isinstance(one, str) else one for one in given):
        if not isinstance(one, dict):
            raise _Unusable("malformed_line", "its answers are no texts")
        text = next((one[key] for key in ("answer_text", "text", "answer") if key in one), None)
        if text is not None and not isinstance(text, str):
            raise _Unusable("malformed_line", "its answer is no text")
        docs = _docs({key: one[key] for key in _DOCS if key in one})
        start = _whole_number(one.get(_START), f"{_START} is no number of characters")
        grade = _whole_number(one.get("grade"), "its grade is no whole number")
        grade = 1 if grade is None else min(max(grade, 0), _HIGHEST)
        text = text if text and text.strip() else ""
        if text or docs:
            yield Answer(text, start, docs, grade)


def _whole_number(value: Any, otherwise: str) -> int | None:
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 19:  # of a table
        return int(value)
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():  # 12.0, but neither NaN nor Infinity
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Unusable("malformed_line", otherwise)
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()  # JSON can carry half a surrogate pair
    except UnicodeEncodeError:
        return False
    return True
