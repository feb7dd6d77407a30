"""Candidates of val questions: what the second stages are tuned and judged on."""

from __future__ import annotations

import numpy as np

from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.search import MIDDLE, fuse, top_k
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.data import Validation


def hybrid_candidates(
    val: Validation, statistics: TermStatistics, depth: int, encoder: Encoder, work: Workspace
) -> tuple[np.ndarray, np.ndarray]:
    """Return the untuned hybrid's best nodes of each val question and their scores.

    Both of shape (questions, depth), best first; the nodes as positions in `val.nodes`.
    """
    if not len(val.questions):
        return np.zeros((0, 0), np.int64), np.zeros((0, 0))
    _, queries = cached_vectors(work, encoder, val.questions.by_id(), "query")
    _, nodes = cached_vectors(work, encoder, val.nodes, "document")
    words = LexicalIndex(list(val.nodes.values()), statistics).scores(val.questions.texts)
    mixed = fuse(queries @ nodes.T, words, MIDDLE)
    best = top_k(mixed, depth)
    return best, np.take_along_axis(mixed, best, axis=1)
