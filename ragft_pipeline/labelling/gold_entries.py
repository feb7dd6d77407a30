"""Judgements as lines of the corpus's own file of people's questions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from ragft_pipeline.labelling.judgements import Judged
from ragft_pipeline.store.files import write_atomically

_OURS = "judged_by"


def gold_entry(name: str, judged: Judged) -> dict[str, Any] | None:
    """Return a question's line; None while nobody is done with it or nothing answers it."""
    answers = judged.answers()
    docs = list(dict.fromkeys(passage.doc for passage, _, grade in answers if grade))
    if not docs:
        return None
    return {
        "id": name[:12],
        "question": judged.question,
        "doc": docs,
        "answers": [
            {"doc": passage.doc, "text": one.text, "answer_start": one.start, "grade": grade}
            for passage, one, grade in answers
        ],
        _OURS: judged.judges,
        "picked": judged.picked,
    }


def write_gold(file: Path, found: Mapping[str, Judged]) -> int:
    """Bring the judged questions' lines of a file up to date; return how many there are.

    Lines that people wrote themselves stay as they are. The file is there whole at any moment, and
    two who write at once write the same.
    """
    entries = {name[:12]: gold_entry(name, one) for name, one in found.items()}
    lines = [json.dumps(one, ensure_ascii=False) for one in entries.values() if one is not None]
    with FileLock(file.with_name(f".{file.name}.lock")):
        before = file.read_text(encoding="utf-8-sig").split("\n") if file.is_file() else []
        kept = [line for line in before if line.strip() and not _is_ours(line, entries)]
        text = "".join(f"{line}\n" for line in (*kept, *lines))
        if text != "\n".join(before):
            write_atomically(file, text.encode())
    return len(lines)


def _is_ours(line: str, entries: Mapping[str, Any]) -> bool:
    if _OURS not in line:
        return False
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and _OURS in entry and entry.get("id") in entries
