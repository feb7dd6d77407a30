"""Sets of questions in other tools' shapes: which there are, how each is read and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.formats.beir import CORPUS, QRELS, read_beir, write_beir
from ragft_pipeline.questions.formats.embedding_qa import (
    FIELDS,
    read_embedding_qa,
    write_embedding_qa,
)
from ragft_pipeline.questions.formats.labelled import Answered, LabelledSet, Text
from ragft_pipeline.questions.formats.lines import (
    read_pairs,
    read_triples,
    write_pairs,
    write_triples,
)
from ragft_pipeline.questions.formats.ragas import COLUMNS, read_ragas, write_ragas
from ragft_pipeline.questions.formats.squad import read_squad, write_squad

__all__ = ["FORMATS", "Answered", "LabelledSet", "Text", "read_labelled", "write_labelled"]

_HEAD = 1 << 16  # bytes of a file that say what it is


@dataclass(frozen=True)
class Format:
    """How a shape is read and written; a path is a file, of `beir` a folder."""

    read: Callable[[Path], LabelledSet]
    write: Callable[[LabelledSet, Path], None]


FORMATS = {
    "embedding-qa": Format(read_embedding_qa, write_embedding_qa),
    "beir": Format(read_beir, write_beir),
    "pairs": Format(read_pairs, write_pairs),
    "triples": Format(read_triples, write_triples),
    "squad": Format(read_squad, write_squad),
    "ragas": Format(read_ragas, write_ragas),
}


def read_labelled(path: Path, name: str = "auto") -> LabelledSet:
    """Read a set; what is not used of it is named in `left_out`.

    Args:
        name: of a format; auto: by what the file or the folder holds.

    Raises RagftError where it is not such a set, or holds nothing at all.
    """
    if not path.exists():
        raise RagftError(f"{path} is not there")
    found = FORMATS[detected(path) if name == "auto" else name].read(path)
    if not (found.questions or found.texts or found.left_out):
        raise RagftError(f"{path} holds no questions")
    return found


def write_labelled(found: LabelledSet, path: Path, name: str) -> None:
    """Write a set in a format."""
    FORMATS[name].write(found, path)


def detected(path: Path) -> str:
    """Return the name of the format that a file or a folder is in; RagftError where none fits."""
    if path.is_dir() or path.parent.name == QRELS:
        if (path / CORPUS).is_file() or (path.parent.parent / CORPUS).is_file():
            return "beir"
        raise RagftError(f"{path} is no BEIR folder: it has no {CORPUS}")
    if path.suffix.lower() in (".csv", ".parquet"):
        return "ragas"
    with path.open("rb") as file:
        head = file.read(_HEAD).decode("utf-8-sig", "ignore").lstrip()
    if not head.startswith(("{", "[")):
        if "\t" in head.split("\n", 1)[0]:
            return "triples"
        raise _unknown(path)
    keys = _keys(head)
    marks = {
        "pairs": {"pos"},
        "squad": {"context", "paragraphs", "data"},
        "embedding-qa": set(FIELDS),
        "ragas": set(COLUMNS),
    }
    found = next((name for name, own in marks.items() if keys & own), None)
    if found is None:
        raise _unknown(path)
    return found


def _keys(head: str) -> set[str]:
    """Return the keys of a file's first object; of a longer one, all that are seen of it."""
    for text in (head.split("\n", 1)[0], head):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        found = found[0] if isinstance(found, list) and found else found
        return set(found) if isinstance(found, dict) else set()
    known = {"query", "pos", "context", "paragraphs", "data", *FIELDS, *COLUMNS}
    return {key for key in known if f'"{key}"' in head}


def _unknown(path: Path) -> RagftError:
    return RagftError(f"{path} is in no format that is known ({', '.join(FORMATS)}): name it")
