"""The JSON of LlamaIndex's EmbeddingQAFinetuneDataset: writing ours, reading a team's own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.errors import RagftError, one_line
from ragft_pipeline.questions.drafts import IMPORTED, Draft, SourceNode
from ragft_pipeline.retrieval.lexical import lexical_terms
from ragft_pipeline.store.files import write_json

_FIELDS = ("queries", "corpus", "relevant_docs")


def export_finetune_dataset(pairs: pa.Table, nodes: pa.Table, path: Path) -> None:
    """Write QA pairs and the nodes they name as EmbeddingQAFinetuneDataset reads them.

    Equal questions are one, with all of their nodes.
    """
    nodes = nodes.filter(
        pc.is_in(nodes.column("node_id"), pairs.column("node_id").combine_chunks())
    )
    texts = dict(zip(nodes.column("node_id").to_pylist(), nodes.column("text").to_pylist()))
    ids, questions = pairs.column("question_id").to_pylist(), pairs.column("question").to_pylist()
    sources = pairs.column("node_id").to_pylist()
    first: dict[str, str] = {}
    relevant: dict[str, list[str]] = {}
    for question_id, question, node_id in zip(ids, questions, sources):
        relevant.setdefault(first.setdefault(question, question_id), []).append(node_id)
    write_json(
        path,
        {
            "queries": {question_id: question for question, question_id in first.items()},
            "corpus": {node_id: texts[node_id] for node_id in sorted(set(sources))},
            "relevant_docs": relevant,
            "mode": "text",
        },
    )


@dataclass(frozen=True)
class ImportedSet:
    """A team's own set: the questions of each text, and the entries that are of no use."""

    by_text: dict[str, list[str]]
    questions: int
    left_out: list[str]


def read_finetune_dataset(path: Path) -> ImportedSet:
    """Read an EmbeddingQAFinetuneDataset JSON; all relevant texts of a question count.

    Raises RagftError where the file is not such a JSON.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
        queries, corpus, relevant = (dict(raw[name]) for name in _FIELDS)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RagftError(
            f"questions.generators: {path} is not an EmbeddingQAFinetuneDataset JSON "
            f"({', '.join(_FIELDS)}): {type(error).__name__} {one_line(error)}"
        ) from None
    by_text: dict[str, list[str]] = {}
    left_out = [f"{name}: has no relevant text" for name in queries if name not in relevant]
    used = 0
    for name, text_ids in relevant.items():
        question = queries.get(name)
        ids = [text_ids] if isinstance(text_ids, str) else text_ids
        texts = [
            plain
            for text_id in (ids if isinstance(ids, list | dict) else ())
            if isinstance(text := corpus.get(str(text_id)), str) and (plain := _plain(text))
        ]
        if not isinstance(question, str) or not question.strip():
            left_out.append(f"{name}: is no question of `queries`")
        elif not ids:
            left_out.append(f"{name}: has no relevant text")
        elif not texts:
            left_out.append(f"{name}: none of its relevant texts is in `corpus`")
        else:
            used += 1
            for text in dict.fromkeys(texts):
                by_text.setdefault(text, []).append(question)
    return ImportedSet(by_text, used, left_out)


def imported_drafts(found: ImportedSet, nodes: Sequence[SourceNode]) -> dict[str, list[Draft]]:
    """Return the drafts, by node id, of a team's own set.

    A question belongs to the nodes that are its relevant texts; else, for each text, of the nodes
    that contain it or lie within it, to the one that shares the most terms with the question. Those
    whose texts are in no node of this split are left for the other splits.
    """
    plain = {node: text for node in nodes if (text := _plain(node.text))}
    drafts: dict[str, dict[str, Draft]] = {}
    for text, questions in found.by_text.items():
        own = [node for node in plain if text == plain[node]] or [
            node for node in plain if text in plain[node] or plain[node] in text
        ]
        terms = {node: set(lexical_terms(plain[node])) for node in own}
        for question in questions if own else ():
            asked = set(lexical_terms(question))
            node = min(own, key=lambda node: (-len(asked & terms[node]), node.node_id))
            draft = Draft(question, IMPORTED, 0, len(node.text))
            drafts.setdefault(node.node_id, {})[question] = draft
    return {node_id: list(own.values()) for node_id, own in drafts.items()}


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
