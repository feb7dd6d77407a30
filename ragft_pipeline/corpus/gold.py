"""Gold questions: what people really ask, with the document and the span that answers.

One JSON object a line: `question`, `doc` (the document's path), `answer_text`, and, where known,
`answer_start` (a character offset in the document's text) or `answers` (a list of both). They
never train: dev questions choose, test questions report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.digests import digest_of


def read_gold_questions(
    lines: str, documents: pa.Table, text_of: Callable[[str], str]
) -> tuple[pa.Table, dict[str, int]]:
    """Return the GOLD_QUESTIONS table, and counts of the lines left out by reason.

    Args:
        lines: the gold file's text, as frozen in the snapshot.
        documents: the snapshot's DOCUMENTS table.
        text_of: the frozen text of a doc_key.
    """
    by_path = {row["path"]: row for row in documents.to_pylist()}
    rows: dict[str, dict[str, Any]] = {}
    left_out: dict[str, int] = {}

    def leave_out(reason: str) -> None:
        left_out[reason] = left_out.get(reason, 0) + 1

    texts: dict[str, str] = {}
    for line in lines.split("\n"):  # not splitlines: JSON strings may hold U+2028
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            question, path = _text(raw["question"]).strip(), _text(raw["doc"])
            wanted = list(_answers(raw))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            leave_out("malformed_line")
            continue
        document = by_path.get(path)
        if document is None:
            leave_out("document_not_in_corpus")
            continue
        key = document["doc_key"]
        text = texts.setdefault(key, text_of(key))
        answers = [span for answer in wanted if (span := find_span(text, *answer))]
        if not answers or not question:
            leave_out("answer_not_in_document")
            continue
        question_id = digest_of("gold", question, key)[:32]
        rows[question_id] = {
            "question_id": question_id,
            "question": question,
            "doc_key": key,
            "cluster": document["cluster"],
            "part": document["gold_part"],
            "split": document["split"],
            "answers": [{"start": start, "end": end} for start, end in answers],
        }
    table = pa.Table.from_pylist(list(rows.values()), schema=schemas.GOLD_QUESTIONS.schema)
    return table, left_out


def find_span(text: str, answer: str, start: int | None) -> tuple[int, int] | None:
    """Find an answer in a text, however its white space was broken; nearest to `start` if given."""
    words = answer.split()
    if not words:
        return None
    pattern = r"\s+".join(re.escape(word) for word in words)
    spans = [match.span() for match in re.finditer(pattern, text)]
    if not spans:
        return None
    return min(spans, key=lambda span: abs(span[0] - start)) if start is not None else spans[0]


def _answers(raw: dict[str, Any]) -> Iterable[tuple[str, int | None]]:
    for answer in raw.get("answers") or [raw]:
        yield _text(answer.get("answer_text", "")), _start(answer.get("answer_start"))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    value.encode()  # JSON can carry half a surrogate pair: UnicodeEncodeError is a ValueError
    return value


def _start(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # 12.0, but neither NaN nor Infinity
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("not a character offset")
    return value
