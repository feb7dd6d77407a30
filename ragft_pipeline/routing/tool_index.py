"""The evidence for each tool: its description's and passages' vectors, and all of its words.

A description alone says too little of what a document holds; its passages say it, so a tool scores
as its best vector does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.mapped_vectors import MappedVectors
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.routing.catalog import ToolDocument, describing
from ragft_pipeline.store import Workspace


@dataclass(frozen=True)
class ToolIndex:
    """Documents as tools to choose among.

    Attributes:
        doc_keys: the tools, in the order of all scores.
        texts: what each vector stands for: the description first, then passages.
        vectors: float32 (vectors, width), a tool's together.
        starts: where each tool's vectors begin, int (tools + 1,).
        lexical: BM25 over all of a tool's words.
    """

    doc_keys: list[str]
    texts: list[str]
    vectors: np.ndarray
    starts: np.ndarray
    lexical: LexicalIndex

    @classmethod
    def of(
        cls,
        documents: Sequence[ToolDocument],
        catalog: pa.Table,
        vectors_per_tool: int,
        encoder: Encoder,
        work: Workspace,
    ) -> ToolIndex:
        """Index documents, encoding only texts that are new.

        Args:
            catalog: TOOL_CATALOG, for the descriptions.
            vectors_per_tool: passages kept a tool, those that differ most; 0 for all.
        """
        texts = {node: text for one in documents for node, text in zip(one.node_ids, one.texts)}
        node_ids, node_vectors = cached_vectors(work, encoder, texts, "document")
        descriptions = describing(catalog)
        own = {one.doc_key: descriptions[one.doc_key] for one in documents}
        _, described = cached_vectors(work, encoder, own, "document")
        return cls.assembled(documents, own, described, node_ids, node_vectors, vectors_per_tool)

    @classmethod
    def assembled(
        cls,
        documents: Sequence[ToolDocument],
        own: dict[str, str],
        described: np.ndarray,
        node_ids: Sequence[str],
        node_vectors: np.ndarray | MappedVectors,
        vectors_per_tool: int = 0,
    ) -> ToolIndex:
        """Index documents whose vectors are there.

        Args:
            own: each document's description, in the order of the documents.
            described: the descriptions' vectors, float32 (documents, width).
            node_ids, node_vectors: the documents' nodes and their vectors.
        """
        row = {node_id: place for place, node_id in enumerate(node_ids)}
        shown: list[str] = []
        parts: list[np.ndarray] = []
        starts = [0]
        for place, one in enumerate(documents):
            passages = node_vectors[[row[node_id] for node_id in one.node_ids]]
            kept = spread_out(passages, vectors_per_tool)
            shown += [own[one.doc_key], *(one.texts[i] for i in kept)]
            parts += [described[place : place + 1], passages[kept]]
            starts.append(len(shown))
        words = [f"{own[one.doc_key]}\n" + "\n".join(one.texts) for one in documents]
        vectors = np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
        keys = [one.doc_key for one in documents]
        return cls(keys, shown, vectors, np.array(starts), LexicalIndex(words))

    def __len__(self) -> int:
        return len(self.doc_keys)

    def dense(self, queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Return each tool's best similarity, float32 (questions, tools).

        Args:
            queries, vectors: unit vectors of questions, and this index's as they are compared.
        """
        return np.maximum.reduceat(queries @ vectors.T, self.starts[:-1], axis=1)

    def best_text(self, query: np.ndarray, vectors: np.ndarray, tool: int) -> str:
        """Return the text of a tool's best-matching vector for one question."""
        own = slice(self.starts[tool], self.starts[tool + 1])
        return self.texts[self.starts[tool] + int(np.argmax(vectors[own] @ query))]


def spread_out(vectors: np.ndarray, limit: int) -> list[int]:
    """Return the places of at most `limit` vectors (0: all) that lie far from each other.

    The one nearest to the mean first, then always the one farthest from those taken
    (Gonzalez 1985).
    """
    if not limit or len(vectors) <= limit:
        return list(range(len(vectors)))
    taken = [int(np.argmax(vectors @ vectors.mean(axis=0)))]
    nearest = vectors @ vectors[taken[0]]
    while len(taken) < limit:
        taken.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, vectors @ vectors[taken[-1]])
    return sorted(taken)
