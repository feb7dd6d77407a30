"""Teacher scores: how a hybrid of BM25 and the base embedder ranks the train nodes.

A lexical and a dense ranker err differently; their sum is a better teacher for the dense one than
either (DESIGN.md cites our trials). Only train questions and train nodes enter.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.search import fuse, min_max, top_k
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.data import Questions, node_texts

_BLOCK = 512


def score_with_teacher(
    pairs: pa.Table,
    nodes: pa.Table,
    statistics: TermStatistics,
    settings: Settings,
    work: Workspace,
) -> pa.Table:
    """Return a TEACHER_SCORES table: each train question's best nodes with both scores.

    Scores are min-max over all train nodes; the `teacher.depth` best by their mixture are kept,
    best first, and always the question's own source node.
    """
    questions, texts = Questions.from_table(pairs), node_texts(nodes)
    encoder = Encoder.base(settings.embedder, settings.compute)
    node_ids, node_vectors = cached_vectors(work, encoder, texts, "document")
    _, question_vectors = cached_vectors(work, encoder, questions.by_id(), "query")
    lexical = LexicalIndex(list(texts.values()), statistics)
    column = {node_id: index for index, node_id in enumerate(node_ids)}
    parts = []
    for start in range(0, len(questions), _BLOCK):
        part = slice(start, start + _BLOCK)
        words = min_max(lexical.scores(questions.texts[part]))
        dense = min_max(question_vectors[part] @ node_vectors.T)
        mixed = fuse(dense, words, 1 - settings.teacher.bm25_weight)
        own = np.array([column[node_id] for node_id in questions.node_ids[part]])
        mixed_top = np.where(np.arange(len(node_ids)) == own[:, None], np.inf, mixed)
        kept = np.sort(top_k(mixed_top, settings.teacher.depth), axis=1)
        order = np.argsort(-np.take_along_axis(mixed, kept, axis=1), axis=1, kind="stable")
        kept = np.take_along_axis(kept, order, axis=1)
        parts.append(
            pa.table(
                {
                    "question_id": questions.ids[part],
                    "node_ids": _lists(pa.array(node_ids).take(pa.array(kept.reshape(-1))), kept),
                    "bm25": _lists(_picked(words, kept), kept),
                    "dense": _lists(_picked(dense, kept), kept),
                },
                schema=schemas.TEACHER_SCORES.schema,
            )
        )
    return pa.concat_tables(parts) if parts else schemas.TEACHER_SCORES.schema.empty_table()


def _picked(scores: np.ndarray, kept: np.ndarray) -> pa.Array:
    picked = np.take_along_axis(scores, kept, axis=1).reshape(-1)
    return pa.array(picked.astype(np.float32))


def _lists(values: pa.Array, shape_of: np.ndarray) -> pa.ListArray:
    rows, width = shape_of.shape
    return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * width, values)


def mixed_scores(row: dict[str, list[float]], bm25_weight: float) -> np.ndarray:
    """Return the mixture of a TEACHER_SCORES row's two lists, float32."""
    bm25, dense = np.asarray(row["bm25"], np.float32), np.asarray(row["dense"], np.float32)
    return bm25_weight * bm25 + (1 - bm25_weight) * dense
