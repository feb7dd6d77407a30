"""The JSON of LlamaIndex's EmbeddingQAFinetuneDataset: queries, corpus, relevant_docs."""

from __future__ import annotations

import json
from pathlib import Path

from ragft_pipeline.errors import RagftError, one_line
from ragft_pipeline.questions.formats.labelled import LabelledSet, Text, read_text
from ragft_pipeline.store.files import json_bytes

FIELDS = ("queries", "corpus", "relevant_docs")


def read_embedding_qa(path: Path) -> LabelledSet:
    """Read the JSON; all relevant texts of a question count.

    Raises RagftError where the file is not such a JSON.
    """
    try:
        raw = json.loads(read_text(path))
        queries, corpus, relevant = (dict(raw[name]) for name in FIELDS)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RagftError(
            f"{path} is not an EmbeddingQAFinetuneDataset JSON "
            f"({', '.join(FIELDS)}): {type(error).__name__} {one_line(error)}"
        ) from None
    found = LabelledSet()
    found.left_out += [f"{name}: has no relevant text" for name in queries if name not in relevant]
    found.texts = {
        str(name): Text(text)
        for name, text in corpus.items()
        if isinstance(text, str) and text.strip()
    }
    for name, text_ids in relevant.items():
        question = queries.get(name)
        ids = [text_ids] if isinstance(text_ids, str) else text_ids
        known = [
            str(one)
            for one in (ids if isinstance(ids, list | dict) else ())
            if str(one) in found.texts
        ]
        if not isinstance(question, str) or not question.strip():
            found.left_out.append(f"{name}: is no question of `queries`")
        elif not ids:
            found.left_out.append(f"{name}: has no relevant text")
        elif not known:
            found.left_out.append(f"{name}: none of its relevant texts is in `corpus`")
        else:
            found.questions[name] = question
            for one in known:
                found.judge(name, one, 1)
    return found


def write_embedding_qa(found: LabelledSet, path: Path) -> None:
    """Write the JSON as `EmbeddingQAFinetuneDataset.from_json` reads it, the best grades first."""
    relevant = {name: found.positives(name) for name in found.questions}
    used = sorted({one for own in relevant.values() for one in own})
    held = {
        "queries": found.questions,
        "corpus": {one: found.texts[one].text for one in used},
        "relevant_docs": relevant,
        "mode": "text",
    }
    path.write_bytes(json_bytes(held))
