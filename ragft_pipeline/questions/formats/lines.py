"""Training lines: `{query, pos, neg}` JSONL as FlagEmbedding reads it, and triples TSV."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragft_pipeline.questions.formats.labelled import (
    LabelledSet,
    Text,
    json_lines,
    plain_string,
    read_text,
    text_id,
    write_lines,
)


def read_pairs(path: Path) -> LabelledSet:
    """Read `{query, pos, neg}` lines.

    Keys that we write beside those are read too: `id`, `pos_ids`, `neg_ids`, `pos_grades`.
    """
    found = LabelledSet()
    for place, row in json_lines(path, found.left_out):
        question = plain_string(row.get("query"))
        sides = {side: _texts(row.get(side)) for side in ("pos", "neg")}
        if not question:
            found.left_out.append(f"{place}: has no query")
        elif sides["pos"] is None or (row.get("neg") is not None and sides["neg"] is None):
            found.left_out.append(f"{place}: pos and neg are lists of texts")
        elif not sides["pos"]:
            found.left_out.append(f"{place}: has no relevant text")
        else:
            name = _free(
                found.questions, plain_string(row.get("id")) or text_id(question), question
            )
            found.questions[name] = question
            grades = _as_many(row.get("pos_grades"), sides["pos"], 1)
            for side, values in (("pos", grades), ("neg", [0] * len(sides["neg"] or ()))):
                ids = _as_many(row.get(f"{side}_ids"), sides[side] or [], "")
                for given, text, grade in zip(ids, sides[side] or [], values):
                    own = _free(found.texts, str(given or text_id(text)), Text(text))
                    found.texts[own] = Text(text)
                    found.judge(name, own, int(grade))
    return found


def _texts(value: Any) -> list[str] | None:
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(plain_string(one) for one in value):
        return None
    return [plain_string(one) for one in value]


def _as_many(value: Any, texts: list[str] | None, other: Any) -> list[Any]:
    """Return a list beside another one, or as many of `other`."""
    given = isinstance(value, list) and len(value) == len(texts or ())
    kind = type(other)
    if given and all(isinstance(one, kind) and not isinstance(one, bool) for one in value):
        return list(value)
    return [other] * len(texts or ())


def _free(known: dict[str, Any], name: str, value: Any) -> str:
    """Return a name under which nothing else stands."""
    return next(
        one
        for one in itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
        if known.get(one, value) == value
    )


def write_pairs(found: LabelledSet, path: Path) -> None:
    """Write a line a question, with all that answers it and all that was judged not to."""

    def rows() -> Iterator[dict[str, Any]]:
        for name, question in found.questions.items():
            pos, neg = found.positives(name), found.negatives(name)
            yield {
                "query": question,
                "pos": [found.texts[one].text for one in pos],
                "neg": [found.texts[one].text for one in neg],
                "id": name,
                "pos_ids": pos,
                "neg_ids": neg,
                "pos_grades": [found.grades[name][one] for one in pos],
            }

    write_lines(path, rows())


def read_triples(path: Path) -> LabelledSet:
    """Read lines of question, text that answers, text that does not (or none), between tabs."""
    found = LabelledSet()
    for number, line in enumerate(read_text(path).split("\n"), 1):
        cells = [cell.strip() for cell in line.rstrip("\r").split("\t")]
        if not any(cells):
            continue
        if len(cells) not in (2, 3) or not all(cells[:2]):
            found.left_out.append(
                f"{path.name} line {number}: is not question, positive, negative between tabs"
            )
            continue
        if number == 1 and [cell.lower() for cell in cells[:2]] in _HEADS:
            continue
        name = text_id(cells[0])
        found.questions[name] = cells[0]
        for text, grade in zip(cells[1:], (1, 0)):
            if text:
                found.texts[text_id(text)] = Text(text)
                found.judge(name, text_id(text), grade)
    return found


_HEADS = (["query", "positive"], ["anchor", "positive"], ["query", "pos"], ["question", "positive"])


def write_triples(found: LabelledSet, path: Path) -> None:
    """Write every pair of a text that answers and one that does not; tabs become blanks."""

    def rows() -> Iterator[tuple[str, ...]]:
        for name, question in found.questions.items():
            negatives = [found.texts[one].text for one in found.negatives(name)] or [""]
            for one in found.positives(name):
                for negative in negatives:
                    yield question, found.texts[one].text, negative

    write_lines(path, rows(), lambda row: "\t".join(" ".join(cell.split()) for cell in row))
