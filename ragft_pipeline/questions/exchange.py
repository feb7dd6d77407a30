"""The JSON of LlamaIndex's EmbeddingQAFinetuneDataset: writing ours, reading a team's own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.drafts import Draft, SourceNode
from ragft_pipeline.store.files import write_json


def export_finetune_dataset(pairs: pa.Table, nodes: pa.Table, path: Path) -> None:
    """Write QA pairs and the nodes they name as EmbeddingQAFinetuneDataset reads them."""
    texts = dict(zip(nodes.column("node_id").to_pylist(), nodes.column("text").to_pylist()))
    ids, questions = pairs.column("question_id").to_pylist(), pairs.column("question").to_pylist()
    sources = pairs.column("node_id").to_pylist()
    write_json(
        path,
        {
            "queries": dict(zip(ids, questions)),
            "corpus": {node_id: texts[node_id] for node_id in sorted(set(sources))},
            "relevant_docs": {question: [node] for question, node in zip(ids, sources)},
            "mode": "text",
        },
    )


def imported_drafts(path: Path, nodes: Sequence[SourceNode]) -> dict[str, list[Draft]]:
    """Return the drafts, by node id, of a team's own set.

    A question belongs to the node that is, contains or lies within its relevant text; one whose
    text is in no node of this split is left for the other splits.

    Raises RagftError where the file is not such a JSON.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        queries, corpus, relevant = raw["queries"], raw["corpus"], raw["relevant_docs"]
        by_text: dict[str, list[str]] = {}
        for query_id, text_ids in relevant.items():
            by_text.setdefault(_plain(corpus[text_ids[0]]), []).append(str(queries[query_id]))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise RagftError(
            f"questions.generators: {path} is not an EmbeddingQAFinetuneDataset JSON "
            f"(queries, corpus, relevant_docs): {type(error).__name__} {error}"
        ) from None
    plain = {node.node_id: _plain(node.text) for node in nodes}
    drafts: dict[str, list[Draft]] = {}
    for text, questions in by_text.items():
        for node in nodes:
            if text and (text in plain[node.node_id] or plain[node.node_id] in text):
                own = [Draft(question, "imported", 0, len(node.text)) for question in questions]
                drafts.setdefault(node.node_id, []).extend(own)
                break
    return drafts


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
