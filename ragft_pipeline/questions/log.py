"""Logs of what people asked: files of questions without answers, read, redacted and counted."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError, one_line
from ragft_pipeline.questions.formats.labelled import plain_string

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet", ".txt")
LONGEST = 2000  # characters of a question
_MOST = 1_000_000  # different questions that are held in memory
_QUESTION = ("question", "query", "user_input", "text", "q")
_COUNT, _TIME = ("count", "frequency", "hits", "n"), ("time", "timestamp", "when", "date")
_ADDRESS = re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}\.[\w.-]{1,64}")
_DIGITS = re.compile(r"(?:\d[ /().-]?){7,}")

Redact = Callable[[str], str | None]


@dataclass
class Logged:
    """A question of a log: how often it was asked, and when last (as the log writes it)."""

    question: str
    count: int = 0
    last: str = ""


@dataclass
class Log:
    """The questions of logs, by their ids, and what was left out: where it stands, and why."""

    questions: dict[str, Logged] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(self, question: str, count: int = 1, last: str = "") -> None:
        """Count a question once more."""
        own = self.questions.setdefault(question_id(question), Logged(question))
        own.count += count
        own.last = max(own.last, last)

    @property
    def personal(self) -> int:
        """How many questions hold what looks like an address or a long number."""
        return sum(
            bool(_ADDRESS.search(one.question) or _DIGITS.search(one.question))
            for one in self.questions.values()
        )


def plain(question: str) -> str:
    """Return a question as equal ones are told: its words, in lower case."""
    return " ".join(re.findall(r"\w+", question.lower()))


def question_id(question: str) -> str:
    """Return the id of a question that somebody asked, however they typed it."""
    return digest_of("asked", plain(question) or question.strip())[:32]


def read_log(files: Iterable[Path], redact: Redact | None, log: Log) -> None:
    """Add the questions of JSON lines, CSV, TSV, Parquet or plain text (a line each) to a log.

    Args:
        redact: takes each question and returns what may be kept of it; nothing leaves it out.

    Raises RagftError where a file is none of these, or the hook fails.
    """
    for file in files:
        for place, row in _rows(file, log.left_out):
            entry = {str(key).strip().lower(): value for key, value in row.items() if key}
            question = plain_string(_first(entry, _QUESTION))
            if redact is not None and question:
                question = _redacted(question, redact, place)
            if not question or len(question) > LONGEST:
                why = f"is longer than {LONGEST} characters" if question else "has no question"
                log.left_out.append(f"{place}: {why}")
                continue
            log.add(question, _number(_first(entry, _COUNT)), str(_first(entry, _TIME) or ""))
            if len(log.questions) > _MOST:
                raise RagftError(f"{file}: more than {_MOST:,} different questions; give fewer")


def redaction(name: str) -> Redact:
    """Return the function that `module:function` names; RagftError where there is none."""
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise RagftError(
            f"questions.generators: redact {name!r} is no module:function that Python finds "
            f"({one_line(error)}); its folder must be on PYTHONPATH"
        ) from None
    if not callable(found):
        raise RagftError(f"questions.generators: redact {name!r} is not a function")
    return found


def _redacted(question: str, redact: Redact, place: str) -> str:
    try:
        return plain_string(redact(question))
    except Exception as error:  # whatever it raises, without the question, which is not to be shown
        raise RagftError(f"{place}: the redaction failed ({type(error).__name__})") from None


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _number(value: Any) -> int:
    try:
        return min(max(int(value), 1), 1 << 40)
    except (TypeError, ValueError, OverflowError):
        return 1


def _rows(file: Path, left_out: list[str]) -> Iterator[tuple[str, dict[Any, Any]]]:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(file)
        return
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            if suffix in (".csv", ".tsv"):
                rows = csv.DictReader(opened, delimiter="\t" if suffix == ".tsv" else ",")
                for row in rows:
                    yield f"{file.name} line {rows.line_num}", row
                return
            for number, line in enumerate(opened, 1):
                if not line.strip():
                    continue
                if suffix == ".txt":
                    yield f"{file.name} line {number}", {"question": line}
                    continue
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError):
                    found = None
                if isinstance(found, dict):
                    yield f"{file.name} line {number}", found
                else:
                    left_out.append(f"{file.name} line {number}: is no JSON object")
    except UnicodeDecodeError as error:
        raise RagftError(f"{file}: not UTF-8 (byte {error.start} of a line)") from None
    except csv.Error as error:
        raise RagftError(f"{file}: is no table ({error})") from None


def _parquet(file: Path) -> Iterator[tuple[str, dict[Any, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        names = list(table.schema_arrow.names)
        wanted = {*_QUESTION, *_COUNT, *_TIME}
        columns = [name for name in names if name.strip().lower() in wanted]
        number = 0
        for batch in table.iter_batches(columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield f"{file.name} row {number}", row
    except (pa.ArrowException, OSError):
        raise RagftError(f"{file} is no Parquet file") from None
