"""A set of questions with judged texts: what every exchange format holds, in one shape."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragft_pipeline.errors import RagftError

MOST_BYTES = 2 << 30  # of one file; it is read into memory


@dataclass(frozen=True)
class Text:
    """A passage or a document."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Answered:
    """The words of a text that answer a question, and where they stand if that is known."""

    text_id: str
    text: str
    start: int | None = None


@dataclass
class LabelledSet:
    """Questions, texts, and what was judged.

    Attributes:
        questions: by id.
        texts: by id; a set may hold texts that no question is about.
        grades: by question id, the grade of each judged text; 0: it does not answer.
        answers: by question id, the words that answer, where a format has them.
        references: by question id, the answer in somebody's words, where a format has it.
        left_out: what is not used: where it stands, and why.
    """

    questions: dict[str, str] = field(default_factory=dict)
    texts: dict[str, Text] = field(default_factory=dict)
    grades: dict[str, dict[str, int]] = field(default_factory=dict)
    answers: dict[str, list[Answered]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def judge(self, question_id: str, text_id: str, grade: int) -> None:
        """Take a judgement; of two of the same text the higher grade counts."""
        own = self.grades.setdefault(question_id, {})
        own[text_id] = max(0, grade, own.get(text_id, 0))

    def positives(self, question_id: str) -> list[str]:
        """Return the texts that answer a question, the best grades first."""
        own = self.grades.get(question_id, {})
        return sorted((name for name in own if own[name] > 0), key=lambda name: -own[name])

    def negatives(self, question_id: str) -> list[str]:
        """Return the texts that were judged not to answer a question, in the order given."""
        return [name for name, grade in self.grades.get(question_id, {}).items() if grade <= 0]

    def checked(self) -> LabelledSet:
        """Return the set without the questions that nothing answers, which are named."""
        for name in list(self.questions):
            if not self.positives(name):
                self.left_out.append(f"{name}: has no relevant text")
                self.drop(name)
        return self

    def drop(self, question_id: str) -> None:
        """Forget a question with all that is known of it."""
        for each in (self.questions, self.grades, self.answers, self.references):
            each.pop(question_id, None)


def text_id(text: str) -> str:
    """Return the id of a text that came without one."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def read_text(path: Path) -> str:
    """Return a file's text; RagftError where it is too large or not UTF-8."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RagftError(f"{path} is larger than {MOST_BYTES >> 30} GB")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RagftError(f"{path}: not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise RagftError(f"{path} cannot be read: {error.strerror}") from None


def json_lines(path: Path, left_out: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each object of a file of JSON lines stands, and the object; name other lines."""
    for number, line in enumerate(read_text(path).split("\n"), 1):  # strings may hold U+2028
        if not line.strip():
            continue
        place = f"{path.name} line {number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found, reason = None, "is not JSON"
        else:
            reason = "is not an object"
        if isinstance(found, dict):
            yield place, found
        else:
            left_out.append(f"{place}: {reason}")


def plain_string(value: Any) -> str:
    """Return a value that is a text which can be written, stripped; else nothing."""
    if not isinstance(value, str):
        return ""
    try:
        value.encode()  # JSON can carry half a surrogate pair
    except UnicodeEncodeError:
        return ""
    return value.strip()


def write_lines(path: Path, rows: Iterator[Any], form: Callable[[Any], str] | None = None) -> None:
    """Write rows, one a line: JSON unless `form` says how."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write((form(row) if form else json.dumps(row, ensure_ascii=False)) + "\n")
