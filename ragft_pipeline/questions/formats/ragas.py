"""RAGAS test sets: user_input, reference_contexts and reference, a row a question."""

from __future__ import annotations

import ast
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.formats.labelled import (
    LabelledSet,
    Text,
    json_lines,
    plain_string,
    read_text,
    text_id,
    write_lines,
)

_QUESTION = ("user_input", "question")
_CONTEXTS = ("reference_contexts", "contexts", "ground_truth_contexts")
_REFERENCE = ("reference", "ground_truth")
COLUMNS = (*_QUESTION, *_CONTEXTS, *_REFERENCE)
_MOST_OF_A_CELL = 1 << 20  # characters of a list that a CSV holds as Python writes it


def read_ragas(path: Path) -> LabelledSet:
    """Read a test set that ragas wrote: JSON lines, a JSON array, CSV or Parquet."""
    found = LabelledSet()
    for place, row in _rows(path, found.left_out):
        question = plain_string(_first(row, _QUESTION))
        contexts = _contexts(_first(row, _CONTEXTS))
        if not question:
            found.left_out.append(f"{place}: has no user_input (several turns are not read)")
        elif contexts is None:
            found.left_out.append(f"{place}: its reference_contexts are no list of texts")
        elif not contexts:
            found.left_out.append(f"{place}: has no reference_contexts")
        else:
            name = plain_string(row.get("id")) or text_id(question)
            found.questions[name] = question
            found.references[name] = plain_string(_first(row, _REFERENCE))
            ids = row.get("reference_context_ids")
            given = ids if isinstance(ids, list) and len(ids) == len(contexts) else contexts
            for one, text in zip(given, contexts):
                own = text_id(text) if given is contexts else str(one)
                found.texts[own] = Text(text)
                found.judge(name, own, 1)
    return found


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _rows(path: Path, left_out: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            rows = pq.read_table(path).to_pylist()
        except (pa.ArrowException, OSError):
            raise RagftError(f"{path} is no Parquet file") from None
        yield from ((f"row {n}", row) for n, row in enumerate(rows, 1))
    elif path.suffix.lower() == ".csv":
        csv.field_size_limit(1 << 27)
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        try:
            for row in reader:
                yield f"line {reader.line_num}", dict(row)
        except csv.Error as error:
            left_out.append(f"line {reader.line_num}: is no row ({error})")
    elif path.suffix.lower() == ".json":
        try:
            whole = json.loads(read_text(path))
        except (ValueError, RecursionError):
            raise RagftError(f"{path} is not JSON") from None
        whole = whole if isinstance(whole, list) else []
        yield from ((f"entry {n}", row) for n, row in enumerate(whole, 1) if isinstance(row, dict))
    else:
        yield from json_lines(path, left_out)


def _contexts(value: Any) -> list[str] | None:
    if isinstance(value, str) and value.lstrip().startswith("[") and len(value) < _MOST_OF_A_CELL:
        try:
            value = ast.literal_eval(value)  # a CSV of pandas: the list as Python writes it
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return None
    return [one for one in map(plain_string, value) if one]


def write_ragas(found: LabelledSet, path: Path) -> None:
    """Write JSON lines that `EvaluationDataset.from_jsonl` reads, the best grades first."""

    def rows() -> Iterator[dict[str, Any]]:
        for name, question in found.questions.items():
            answers = [one.text for one in found.answers.get(name, ())]
            own = found.positives(name)
            yield {
                "user_input": question,
                "reference_contexts": [found.texts[one].text for one in own],
                "reference_context_ids": own,
                "reference": found.references.get(name) or " … ".join(answers),
                "id": name,
            }

    write_lines(path, rows())
