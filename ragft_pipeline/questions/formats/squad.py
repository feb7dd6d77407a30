"""SQuAD: contexts, questions about them, and the words that answer with their places."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.formats.labelled import (
    Answered,
    LabelledSet,
    Text,
    json_lines,
    plain_string,
    read_text,
)
from ragft_pipeline.store.files import write_json


def read_squad(path: Path) -> LabelledSet:
    """Read SQuAD 1 or 2, as its one JSON or as the lines that datasets writes of it.

    A question that its context does not answer (`is_impossible`) is judged so, and left out.
    """
    found = LabelledSet()
    known: dict[tuple[str, str], str] = {}  # title and context to the context's id
    numbers: Counter[str] = Counter()  # of a title's contexts so far
    for place, title, context_id, context, row in _rows(path, found.left_out):
        question = plain_string(row.get("question"))
        text = context if isinstance(context, str) else ""
        if not question or not text.strip():
            found.left_out.append(f"{place}: has no {'context' if question else 'question'}")
            continue
        if (title, text) not in known:
            known[title, text] = context_id or f"{title or 'context'}-{numbers[title]}"
            numbers[title] += 1
        own = known[title, text]
        found.texts[own] = Text(text, title)
        name = plain_string(row.get("id")) or place
        if name in found.questions:
            found.left_out.append(f"{place}: the id {name} stands above")
            continue
        answers = _answers(row.get("answers"), own)
        if answers is None:
            found.left_out.append(f"{place}: its answers are no texts")
            continue
        found.questions[name] = question
        found.judge(name, own, 1 if answers else 0)
        found.answers[name] = answers
    return found.checked()


def _rows(path: Path, left_out: list[str]) -> Iterator[tuple[str, str, str, Any, dict[str, Any]]]:
    """Yield place, title, context id, context and entry of each question."""
    try:
        whole = json.loads(read_text(path))
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("data"), list):
        for at, article in enumerate(whole["data"], 1):
            paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
            if not isinstance(paragraphs, list):
                left_out.append(f"article {at}: has no paragraphs")
                continue
            title = plain_string(article.get("title"))
            for part, paragraph in enumerate(paragraphs, 1):
                asked = paragraph.get("qas") if isinstance(paragraph, dict) else None
                if not isinstance(asked, list):
                    left_out.append(f"article {at}, paragraph {part}: has no qas")
                    continue
                context_id = plain_string(paragraph.get("context_id"))
                for number, row in enumerate(asked, 1):
                    place = f"article {at}, paragraph {part}, question {number}"
                    if not isinstance(row, dict):
                        left_out.append(f"{place}: is not an object")
                        continue
                    impossible = row.get("is_impossible") is True
                    entry = {**row, "answers": []} if impossible else row
                    yield place, title, context_id, paragraph.get("context"), entry
        return
    objects: Iterator[tuple[str, dict[str, Any]]]
    if isinstance(whole, list):
        objects = ((f"entry {n}", row) for n, row in enumerate(whole, 1) if isinstance(row, dict))
    else:
        objects = json_lines(path, left_out)
    for place, row in objects:
        yield place, plain_string(row.get("title")), "", row.get("context"), row


def _answers(given: Any, text_id: str) -> list[Answered] | None:
    if isinstance(given, dict):  # as datasets keeps them: lists beside each other
        texts, starts = given.get("text"), given.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list):
            return None
        given = [{"text": t, "answer_start": s} for t, s in zip(texts, starts)]
    if not isinstance(given, list):
        return None
    found: list[Answered] = []
    for one in given:
        text = one.get("text") if isinstance(one, dict) else None
        if not plain_string(text):
            return None
        start = one.get("answer_start")
        place = start if isinstance(start, int) and not isinstance(start, bool) else None
        answered = Answered(text_id, str(text), place)
        if answered not in found:
            found.append(answered)
    return found


def write_squad(found: LabelledSet, path: Path) -> None:
    """Write SQuAD 2: an article a title, a paragraph a text, with the questions about it.

    Raises RagftError where no question has words that answer.
    """
    if found.questions and not any(found.answers.values()):
        raise RagftError("squad: no question says which words answer; take another format")
    about: dict[str, list[dict[str, Any]]] = {}
    for name, question in found.questions.items():
        for text_id in found.positives(name):
            answers = [
                {"text": one.text, "answer_start": place}
                for one in found.answers.get(name, ())
                if one.text_id == text_id
                for place in [_place(one, found.texts[text_id].text)]
                if place is not None
            ]
            if answers:
                row = {"id": name, "question": question, "answers": answers, "is_impossible": False}
                about.setdefault(text_id, []).append(row)
    titles: dict[str, list[str]] = {}
    for text_id in about:
        titles.setdefault(found.texts[text_id].title, []).append(text_id)
    data = [
        {
            "title": title,
            "paragraphs": [
                {"context": found.texts[one].text, "context_id": one, "qas": about[one]}
                for one in own
            ],
        }
        for title, own in titles.items()
    ]
    write_json(path, {"version": "2.0", "data": data})


def _place(answer: Answered, text: str) -> int | None:
    start = answer.start
    if start is not None and text[start : start + len(answer.text)] == answer.text:
        return start
    at = text.find(answer.text)
    return at if at >= 0 else None
