"""The JSON of LlamaIndex's EmbeddingQAFinetuneDataset: writing ours, reading a team's own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.drafts import Draft, SourceNode
from ragft_pipeline.retrieval.lexical import lexical_terms
from ragft_pipeline.store.files import write_json


def export_finetune_dataset(pairs: pa.Table, nodes: pa.Table, path: Path) -> None:
    """Write QA pairs and the nodes they name as EmbeddingQAFinetuneDataset reads them."""
    nodes = nodes.filter(
        pc.is_in(nodes.column("node_id"), pairs.column("node_id").combine_chunks())
    )
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

    A question belongs to the node that is its relevant text; else, of the nodes that contain it or
    lie within it, to the one that shares the most terms with the question. One whose text is in
    no node of this split is left for the other splits.

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
    plain = {node: text for node in nodes if (text := _plain(node.text))}
    drafts: dict[str, list[Draft]] = {}
    for text, questions in by_text.items():
        own = [node for node in plain if text == plain[node]] or [
            node for node in plain if text and (text in plain[node] or plain[node] in text)
        ]
        terms = {node: set(lexical_terms(plain[node])) for node in own}
        for question in questions if own else ():
            asked = set(lexical_terms(question))
            node = min(own, key=lambda node: (-len(asked & terms[node]), node.node_id))
            draft = Draft(question, "imported", 0, len(node.text))
            drafts.setdefault(node.node_id, []).append(draft)
    return drafts


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
