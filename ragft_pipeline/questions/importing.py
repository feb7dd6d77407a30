"""A set in another tool's shape as a corpus of our own, or as questions about the one there is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.formats import Answered, LabelledSet, Text
from ragft_pipeline.questions.formats.labelled import write_lines

DOCUMENTS, QUESTIONS, SUFFIX = "docs", "queries.jsonl", ".txt"
_LONGEST_NAME = 200  # bytes of a file's name


def write_corpus(found: LabelledSet, folder: Path) -> None:
    """Write a set's texts as documents and its questions as the file of people's questions.

    A document is named by its text's id; what no file can be named is percent-encoded. So the ids
    come back when the questions are exported. Texts that no question is about are written too.

    Raises RagftError where the folder holds something, or an id is too long for a file's name.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RagftError(f"{folder} holds something: give a new folder")
    names = {one: _file_name(one) for one in found.texts}
    (folder / DOCUMENTS).mkdir(parents=True)
    for one, text in found.texts.items():
        whole = f"{text.title}\n\n{text.text}" if text.title else text.text
        (folder / DOCUMENTS / names[one]).write_text(whole, encoding="utf-8", newline="\n")
    shifts = {one: len(text.title) + 2 if text.title else 0 for one, text in found.texts.items()}
    write_lines(folder / QUESTIONS, gold_entries(found, names, shifts))


def _file_name(text_id: str) -> str:
    name = quote(text_id, safe=" !#$&'()+,;=@[]{}~^") + SUFFIX
    name = f"%{ord(name[0]):02X}{name[1:]}" if name[0] in ". ~" else name
    if len(name.encode()) > _LONGEST_NAME:
        raise RagftError(f"the id {text_id[:40]}… is too long for the name of a file")
    return name


def gold_entries(
    found: LabelledSet, docs: Mapping[str, str], shifts: Mapping[str, int] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield an entry of the file of people's questions for each question (corpus.gold_file).

    Args:
        docs: by text id the document that the text is.
        shifts: by text id how far into its document the text begins.
    """
    for name, question in found.questions.items():
        grades = found.grades[name]
        answers: list[dict[str, Any]] = []
        for one in found.answers.get(name, ()):
            answer: dict[str, Any] = {"doc": docs[one.text_id], "text": one.text}
            if one.start is not None:
                answer["answer_start"] = one.start + (shifts or {}).get(one.text_id, 0)
            answers.append({**answer, "grade": grades[one.text_id]})
        spoken_for = {one.text_id for one in found.answers.get(name, ())}
        answers += [
            {"doc": docs[one], "grade": grade}
            for one, grade in grades.items()
            if one not in spoken_for
        ]
        positives = [docs[one] for one in found.positives(name)]
        yield {"id": name, "question": question, "doc": positives, "answers": answers}


@dataclass
class Placed:
    """Entries of the file of people's questions, and what found no place in the documents."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def place_in_documents(found: LabelledSet, documents: Mapping[str, str]) -> Placed:
    """Return a set's questions as entries about the documents that hold its texts word for word.

    White space may differ. What was judged not to answer comes along where it is found.

    Args:
        documents: by path, the text.
    """
    plain = {path: _plain(text) for path, text in documents.items()}
    places: dict[str, list[str]] = {}
    for one, text in found.texts.items():
        wanted = _plain(text.text)
        places[one] = [path for path, whole in plain.items() if wanted and wanted in whole]
    placed = Placed()
    for name, question in found.questions.items():
        spans = found.answers.get(name, ())
        words = {one.text_id: [span.text for span in spans if span.text_id == one] for one in spans}
        answers = [
            {"doc": path, "text": text, "grade": grade}
            for one, grade in found.grades[name].items()
            for path in places[one]
            for text in words.get(one) or [found.texts[one].text]
        ]
        positives = list(dict.fromkeys(one["doc"] for one in answers if one["grade"]))
        if positives:
            entry = {"id": name, "question": question, "doc": positives, "answers": answers}
            placed.entries.append(entry)
        else:
            placed.left_out.append(f"{name}: none of its texts stands in a document")
    return placed


def add_entries(file: Path, entries: list[dict[str, Any]]) -> int:
    """Append entries to a file of people's questions, without those that stand there; return count.

    Raises RagftError where the file is not one of JSON lines.
    """
    before = file.read_text(encoding="utf-8-sig") if file.is_file() else ""
    if before.lstrip()[:1] not in ("", "{"):
        raise RagftError(f"{file} is not one of JSON lines: nothing can be added to it")
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    known = set(before.split("\n"))
    new = [line for line in lines if line not in known]
    if new:
        file.parent.mkdir(parents=True, exist_ok=True)
        gap = "\n" if before and not before.endswith("\n") else ""
        with file.open("a", encoding="utf-8", newline="\n") as opened:
            opened.write(gap + "\n".join(new) + "\n")
    return len(new)


def labelled_gold(
    gold: list[dict[str, Any]], documents: list[dict[str, Any]], text_of: Callable[[str], str]
) -> LabelledSet:
    """Return people's questions with whole documents as the texts, all of the corpus.

    A document's grade is the best of what was judged in it; its id is its path, without the suffix
    where that is as clear. Questions keep the ids that their file gave them.

    Args:
        gold: GOLD_QUESTIONS rows.
        documents: DOCUMENTS rows.
        text_of: the frozen text of a doc_key.
    """
    files: dict[str, list[dict[str, Any]]] = {}
    for row in documents:
        files.setdefault(row["file"] or row["path"], []).append(row)
    ids = _document_ids(list(files))
    of_key = {row["doc_key"]: row for row in documents}
    found = LabelledSet()
    for path, rows in files.items():
        whole = text_of(rows[0]["file_key"] or rows[0]["doc_key"])
        found.texts[ids[path]] = _split_title(whole, rows[0]["title"])
    taken: set[str] = set()
    for row in gold:
        name = row["asked_as"] or row["question_id"]
        name = row["question_id"] if name in taken else name
        taken.add(name)
        found.questions[name] = row["question"]
        judged = [(one["doc_key"], one["grade"]) for one in row["answers"] or ()]
        judged += zip(row["whole"] or (), row["whole_grades"] or [1] * len(row["whole"] or ()))
        judged += [(one["doc_key"], 0) for one in row["rejected"] or ()]
        for key, grade in judged:
            own = of_key[key]
            found.judge(name, ids[own["file"] or own["path"]], 1 if grade is None else grade)
        for one in row["answers"] or ():
            own = of_key[one["doc_key"]]
            text_id = ids[own["file"] or own["path"]]
            whole = text_of(own["file_key"] or own["doc_key"])
            offset = own["start_char"] or 0
            words = whole[one["start"] + offset : one["end"] + offset]
            shift = len(whole) - len(found.texts[text_id].text)
            start = one["start"] + offset - shift
            answered = Answered(text_id, words, start if start >= 0 else None)
            found.answers.setdefault(name, []).append(answered)
    return found


def _document_ids(paths: list[str]) -> dict[str, str]:
    from urllib.parse import unquote

    short = {path: unquote(path.removesuffix(SUFFIX)) for path in paths}
    counts: dict[str, int] = {}
    for path in paths:
        for name in {short[path], path}:
            counts[name] = counts.get(name, 0) + 1
    return {path: short[path] if counts[short[path]] == 1 else path for path in paths}


def _split_title(whole: str, title: str) -> Text:
    """Return a document's text without its first line where that is the title, as we write it."""
    head, _, rest = whole.partition("\n\n")
    return Text(rest, head) if rest and title and head == title else Text(whole, title)


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
