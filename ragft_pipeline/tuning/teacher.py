"""Teacher scores: how a hybrid of BM25 and the base embedder ranks the train nodes.

A lexical and a dense ranker err differently; their sum is a better teacher for the dense one than
either (DESIGN.md cites our trials). Only train questions and train nodes enter.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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


class TeacherLists:
    """TEACHER_SCORES by position: question rows against node columns, for training steps.

    Args:
        scores: a TEACHER_SCORES table.
        questions: the questions, in the order of the rows.
        node_ids: the nodes, in the order of the columns.
    """

    def __init__(self, scores: pa.Table, questions: Questions, node_ids: list[str]) -> None:
        place = {question_id: row for row, question_id in enumerate(questions.ids)}
        scores = scores.filter(pc.is_in(scores.column("question_id"), pa.array(questions.ids)))
        rows = [place[question_id] for question_id in scores.column("question_id").to_pylist()]
        order = np.argsort(rows)
        scores = scores.take(pa.array(order)).combine_chunks()
        lists = scores.column("node_ids").combine_chunks()
        self._offsets = lists.offsets.to_numpy()
        known = pc.index_in(lists.flatten(), pa.array(node_ids))
        self._nodes = known.to_numpy(zero_copy_only=False)
        self._bm25 = scores.column("bm25").combine_chunks().flatten().to_numpy()
        self._dense = scores.column("dense").combine_chunks().flatten().to_numpy()
        column = {node_id: index for index, node_id in enumerate(node_ids)}
        self._own = np.array([column[node_id] for node_id in questions.node_ids])
        self._width = len(node_ids)

    def columns(self, batch: np.ndarray, limit: int, random: np.random.Generator) -> np.ndarray:
        """Return the nodes of a step, ascending: all, or at most `limit` of them.

        Of a larger corpus: the sources, the teacher's best of each question, and a random rest.
        """
        if self._width <= limit:
            return np.arange(self._width)
        best = max(1, limit // (2 * len(batch)))
        listed = [self._nodes[self._offsets[row] :][:best] for row in batch]
        rest = random.integers(self._width, size=limit // 2)
        wanted = np.concatenate([self._own[batch], *listed, rest])
        return np.unique(wanted)

    def dense(
        self, batch: np.ndarray, columns: np.ndarray, bm25_weight: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the mixed scores, float32 (batch, columns), and the column of each source.

        A node that the teacher did not list is taken for as good as the worst listed one.
        """
        place = np.full(self._width, -1)
        place[columns] = np.arange(len(columns))
        target = np.empty((len(batch), len(columns)), np.float32)
        for row, question in enumerate(batch):
            part = slice(self._offsets[question], self._offsets[question + 1])
            mixed = bm25_weight * self._bm25[part] + (1 - bm25_weight) * self._dense[part]
            here = place[self._nodes[part]]
            target[row] = mixed.min()
            target[row, here[here >= 0]] = mixed[here >= 0]
        return target, place[self._own[batch]]


def mixed_scores(row: dict[str, list[float]], bm25_weight: float) -> np.ndarray:
    """Return the mixture of a TEACHER_SCORES row's two lists, float32."""
    bm25, dense = np.asarray(row["bm25"], np.float32), np.asarray(row["dense"], np.float32)
    return bm25_weight * bm25 + (1 - bm25_weight) * dense
