"""Gold questions: what people really ask, with the documents and the spans that answer.

They never train. What is chosen by them is chosen without those that it is measured on
(`retrieval.folds`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.corpus.document_names import DocumentNames
from ragft_pipeline.corpus.gold_file import Answer, Asked, LeftOut, parse_gold
from ragft_pipeline.corpus.matching import MatchedText
from ragft_pipeline.corpus.splits import PROTECTION
from ragft_pipeline.digests import digest_of

GOLD_VERSION = 3  # raise it when some file would give other questions


@dataclass(frozen=True)
class GoldQuestions:
    """The GOLD_QUESTIONS table, how many entries it is made of, and those left out."""

    table: pa.Table
    entries: int
    left_out: list[LeftOut]

    @property
    def of_whole_documents(self) -> int:
        """How many questions name no answer: of their documents every node counts."""
        return sum(bool(documents) for documents in self.table.column("whole").to_pylist())


@dataclass
class _Merged:
    """A question with all that answers it, and how well: spans of texts, and whole documents.

    What was judged not to answer is in `rejected`; `name` is the question's own id in the file.
    """

    spans: dict[tuple[str, int, int], int] = field(default_factory=dict)
    whole: dict[str, int] = field(default_factory=dict)
    rejected: set[tuple[str, int, int]] = field(default_factory=set)
    name: str = ""

    def add(self, other: _Merged) -> None:
        """Take what another entry says of the same question; the higher grade counts."""
        for span, grade in other.spans.items():
            self.spans[span] = max(grade, self.spans.get(span, 0))
        for key, grade in other.whole.items():
            self.whole[key] = max(grade, self.whole.get(key, 0))
        self.rejected |= other.rejected
        self.name = self.name or other.name


def read_gold_questions(
    lines: str, documents: pa.Table, text_of: Callable[[str], str]
) -> GoldQuestions:
    """Return the questions of a gold file; entries that ask the same are one question.

    Every place at which an answer stands counts, or the one that `answer_start` names; of a
    question without an answer every node of its documents does.

    Args:
        lines: the gold file's text, as frozen in the snapshot.
        documents: the snapshot's DOCUMENTS table.
        text_of: the frozen text of a doc_key.

    Raises RagftError where not one entry of the file is a question.
    """
    file = parse_gold(lines)
    rows = documents.to_pylist()
    corpus = _Corpus(rows, text_of)
    merged: dict[str, _Merged] = {}
    left_out = list(file.left_out)
    for asked in file.asked:
        found = corpus.answers(asked)
        if isinstance(found, LeftOut):
            left_out.append(found)
            continue
        merged.setdefault(asked.question, _Merged()).add(found)
    of_key = {row["doc_key"]: row for row in reversed(rows)}
    questions = [_row(question, one, of_key) for question, one in merged.items()]
    table = pa.Table.from_pylist(questions, schema=schemas.GOLD_QUESTIONS.schema)
    left_out.sort(key=lambda one: int(one.place.split()[-1]))
    return GoldQuestions(table, len(file.asked) + len(file.left_out), left_out)


class _Corpus:
    """Finds answers in the documents that a question names."""

    def __init__(self, rows: Sequence[dict[str, Any]], text_of: Callable[[str], str]) -> None:
        self._by_file: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            self._by_file.setdefault(row["file"] or row["path"], []).append(row)
        self._names = DocumentNames(self._by_file)
        self._text_of = text_of
        self._matched: dict[str, MatchedText] = {}

    def answers(self, asked: Asked) -> _Merged | LeftOut:
        """Return what answers a question, or why it is left out."""
        found = _Merged(name=asked.name)
        strangers: list[str] = []
        for answer in asked.answers or (Answer(""),):
            for file in self._files(answer.docs or asked.docs, strangers):
                found.add(self._found(file, answer))
        if found.spans or found.whole:
            return found
        if asked.answers and not any(answer.grade for answer in asked.answers):
            detail = "all that was judged of it does not answer"
            return LeftOut(asked.place, asked.question, "nothing_answers", detail)
        if strangers:
            return LeftOut(asked.place, asked.question, "document_not_in_corpus", strangers[0])
        shown = asked.answers[0].text if asked.answers else ""
        detail = f"the answer {_short(shown)!r} is not in {', '.join(asked.docs) or 'its document'}"
        return LeftOut(asked.place, asked.question, "answer_not_in_document", detail)

    def _files(self, names: Iterable[str], strangers: list[str]) -> Iterator[str]:
        for name in names:
            found = self._names.find(name)
            if len(found) == 1:
                yield found[0]
            elif found:
                shown = ", ".join(found[:3])
                strangers.append(f"{name} may be any of {len(found)} documents ({shown} …)")
            else:
                strangers.append(f"{name} is not in the corpus")

    def _found(self, file: str, answer: Answer) -> _Merged:
        """Return what an answer is in a file."""
        if answer.text:
            spans = set(self._spans(file, answer.text, answer.start))
        else:
            spans = {(row["doc_key"], 0, row["characters"] or 0) for row in self._by_file[file]}
        if not answer.grade:
            return _Merged(rejected=spans)
        if answer.text:
            return _Merged(spans=dict.fromkeys(spans, answer.grade))
        return _Merged(whole={key: answer.grade for key, _, _ in spans})

    def _spans(self, file: str, answer: str, start: int | None) -> Iterator[tuple[str, int, int]]:
        """Yield the spans of an answer in the texts that a file was frozen as."""
        rows = self._by_file[file]
        key = rows[0]["file_key"] or rows[0]["doc_key"]
        if key not in self._matched:
            self._matched[key] = MatchedText(self._text_of(key))
        if start is not None:  # counted from the file's beginning
            start -= rows[0]["front"] or 0
        for begin, end in self._matched[key].find(answer, start):
            for row in rows:
                offset = row["start_char"] or 0
                low, high = max(0, begin - offset), min(row["characters"] or end, end - offset)
                if low < high:
                    yield row["doc_key"], low, high


def _row(question: str, merged: _Merged, of_key: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a question's row.

    It is held out where all of its documents are, and counted under the first that says so.
    """
    keys = sorted({key for key, _, _ in merged.spans} | set(merged.whole))
    rows = [of_key[key] for key in keys]
    split = max((row["split"] for row in rows), key=PROTECTION.index)
    first = next(row for row in rows if row["split"] == split)
    return {
        "question_id": digest_of("gold", question, *keys)[:32],
        "question": question,
        "doc_key": first["doc_key"],
        "cluster": first["cluster"],
        "split": split,
        "answers": [
            {**_span(span), "grade": grade} for span, grade in sorted(merged.spans.items())
        ],
        "whole": sorted(merged.whole),
        "whole_grades": [merged.whole[key] for key in sorted(merged.whole)],
        "rejected": [_span(span) for span in sorted(merged.rejected - set(merged.spans))],
        "asked_as": merged.name,
    }


def _span(span: tuple[str, int, int]) -> dict[str, Any]:
    key, start, end = span
    return {"start": start, "end": end, "doc_key": key}


def left_out_lines(left_out: Sequence[dict[str, Any]], entries: int, most: int = 20) -> list[str]:
    """Return what a person reads of the entries left out: the count, then each, up to `most`."""
    if not left_out:
        return []
    lines = [f"{len(left_out)} of {entries} entries of the gold questions are left out:"]
    lines += [f"  {one['place']}: {one['detail']}" for one in left_out[:most]]
    if len(left_out) > most:
        lines.append(f"  and {len(left_out) - most} more")
    return lines


def _short(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= 60 else joined[:59] + "…"
