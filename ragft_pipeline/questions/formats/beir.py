"""BEIR's folder: corpus.jsonl, queries.jsonl and qrels/*.tsv with grades.

Thakur et al. 2021; the columns of a qrels file are query-id, corpus-id and score below a head, or
TREC's four without one, as ir-datasets writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.formats.labelled import (
    LabelledSet,
    Text,
    json_lines,
    plain_string,
    read_text,
    write_lines,
)

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"


def read_beir(folder: Path) -> LabelledSet:
    """Read a folder; the judgements of all of its qrels files, or of the one file given.

    A question without judgements is left out where there are any; a folder of documents alone is a
    set without questions.

    Args:
        folder: with corpus.jsonl; or one of its qrels files.
    """
    root = folder if folder.is_dir() else folder.parent.parent
    if not (root / CORPUS).is_file():
        raise RagftError(f"{root} is no BEIR folder: it has no {CORPUS}")
    found = LabelledSet()
    _add_texts(found, root)
    files = [folder] if folder.is_file() else sorted((root / QRELS).glob("*.tsv"))
    for file in files:
        for place, name, text, grade in _judgements(file, found.left_out):
            if name not in found.questions:
                found.left_out.append(f"{place}: {name} is no question of {QUERIES}")
            elif text not in found.texts:
                found.left_out.append(f"{place}: {text} is no document of {CORPUS}")
            else:
                found.judge(name, text, grade)
    return found.checked()


def _add_texts(found: LabelledSet, root: Path) -> None:
    """Read the documents and, where there are some, the questions."""
    for place, row in json_lines(root / CORPUS, found.left_out):
        name, text = _identifier(row.get("_id")), plain_string(row.get("text"))
        title = plain_string(row.get("title"))
        if not name or not (text or title):
            found.left_out.append(f"{place}: has no {'text' if name else '_id'}")
        elif name in found.texts:
            found.left_out.append(f"{place}: the _id {name} stands above")
        else:
            found.texts[name] = Text(text, title)
    if (root / QUERIES).is_file():
        for place, row in json_lines(root / QUERIES, found.left_out):
            name, text = _identifier(row.get("_id")), plain_string(row.get("text"))
            if not name or not text:
                found.left_out.append(f"{place}: has no {'text' if name else '_id'}")
            else:
                found.questions[name] = text


def _judgements(file: Path, left_out: list[str]) -> Iterator[tuple[str, str, str, int]]:
    for number, line in enumerate(read_text(file).split("\n"), 1):
        cells = line.rstrip("\r").split("\t") if "\t" in line else line.split()
        if not any(cell.strip() for cell in cells):
            continue
        place = f"{QRELS}/{file.name} line {number}"
        if number == 1 and cells[-1].strip().lower() in ("score", "relevance", "rel"):
            continue
        if len(cells) not in (3, 4):
            left_out.append(f"{place}: is not query-id, corpus-id, score")
            continue
        try:
            grade = int(float(cells[-1]))
        except (ValueError, OverflowError):
            left_out.append(f"{place}: the score {cells[-1].strip()[:40]!r} is no number")
            continue
        yield place, cells[0].strip(), cells[-2].strip(), grade


def _identifier(value: object) -> str:
    return str(value) if isinstance(value, int) else plain_string(value)


def write_beir(found: LabelledSet, folder: Path, split: str = "test") -> None:
    """Write a set as a folder that beir's GenericDataLoader reads, its judgements as one split.

    Raises RagftError where an id holds a tab or a line break, which no qrels file can carry.
    """
    for name in (*found.questions, *found.texts):
        if any(character in name for character in "\t\r\n"):
            raise RagftError(f"the id {name!r} holds a tab or a line break: BEIR has no such ids")
    documents = (
        {"_id": name, "title": one.title, "text": one.text, "metadata": {}}
        for name, one in found.texts.items()
    )
    write_lines(folder / CORPUS, documents)
    asked = ({"_id": name, "text": text} for name, text in found.questions.items())
    write_lines(folder / QUERIES, asked)
    judged = (
        (name, text, grade) for name, own in found.grades.items() for text, grade in own.items()
    )
    head = [("query-id", "corpus-id", "score")]
    rows = (row for rows in (head, judged) for row in rows)
    write_lines(folder / QRELS / f"{split}.tsv", rows, lambda row: "\t".join(map(str, row)))
