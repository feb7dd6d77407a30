"""The passages beside the source: near ones that do not answer, found by the untuned hybrid.

They come from the question's own document and from the train nodes that the frozen term statistics
were counted on, so a new document changes no other document's chats until these are renewed. The
tuned retriever is not asked: every training of it would make every chat stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ragft_pipeline.answering.answers import AskedNode
from ragft_pipeline.digests import digest_of
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.search import MIDDLE, fuse
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.retrieval.words import TERMS_VERSION, language_of
from ragft_pipeline.store import Workspace

DISTRACTOR_VERSION = 1  # raise it when some question would get others
_ROWS = pa.schema([("row_key", pa.string()), ("node_ids", pa.list_(pa.string()))])


@dataclass(frozen=True)
class Library:
    """The nodes that distractors come from.

    Attributes:
        texts: of the pool and of the split, by node id.
        pool: node ids open to every question.
        documents: node ids of each document of the split.
        statistics: frozen, for BM25; `statistics_version` names them.
    """

    texts: Mapping[str, str]
    pool: frozenset[str]
    documents: Mapping[str, frozenset[str]]
    statistics: TermStatistics
    statistics_version: str


def find_distractors(
    asked: Sequence[tuple[AskedNode, str]],
    library: Library,
    number: int,
    encoder: Encoder,
    work: Workspace,
) -> dict[str, list[str]]:
    """Return at most `number` node ids for each question id, nearest first.

    Args:
        asked: questions with the answer, which no distractor may contain.
    """
    row_settings = digest_of(
        DISTRACTOR_VERSION,
        TERMS_VERSION,
        number,
        [encoder.identity(kind) for kind in ("query", "document")],
        library.statistics_version,
        sorted(library.pool),
    )
    cache = work.rows("distractors", row_settings, _ROWS, family="*_chats")

    def key(one: tuple[AskedNode, str]) -> str:
        own = sorted(library.documents[one[0].doc_key])
        return digest_of(one[0].question, one[0].node_id, one[1], own)

    def find(batch: Sequence[tuple[AskedNode, str]]) -> pa.Table:
        found = _nearest(batch, library, number, encoder, work)
        return pa.table({"row_key": [key(one) for one in batch], "node_ids": found}, schema=_ROWS)

    rows = cache.complete(asked, key, find, batch_size=512)
    by_key = dict(zip(rows.column("row_key").to_pylist(), rows.column("node_ids").to_pylist()))
    return {one[0].question_id: by_key[key(one)] for one in asked}


def _nearest(
    batch: Sequence[tuple[AskedNode, str]],
    library: Library,
    number: int,
    encoder: Encoder,
    work: Workspace,
) -> list[list[str]]:
    own = {one.doc_key: library.documents[one.doc_key] for one, _ in batch}
    texts = {name: library.texts[name] for name in sorted(library.pool.union(*own.values()))}
    ids, vectors = cached_vectors(work, encoder, texts, "document")
    questions = {one.question_id: one.question for one, _ in batch}
    asked, queries = cached_vectors(work, encoder, questions, "query")
    place = {question_id: row for row, question_id in enumerate(asked)}
    dense = queries @ vectors.T
    # the pool is named by every row; other questions' documents in the batch are not
    spoken = {language_of(texts[name], library.statistics.language) for name in library.pool}
    lexical = LexicalIndex(list(texts.values()), library.statistics, asked_in=sorted(spoken))
    words = lexical.scores(list(questions.values()))
    plain = {name: " ".join(text.split()) for name, text in texts.items()}
    open_to = {
        key: np.flatnonzero([name in library.pool or name in nodes for name in ids])
        for key, nodes in own.items()
    }
    found = []
    for one, answer in batch:
        columns, row = open_to[one.doc_key], place[one.question_id]
        scores = fuse(dense[row : row + 1, columns], words[row : row + 1, columns], MIDDLE)[0]
        ranked = (ids[column] for column in columns[np.argsort(-scores, kind="stable")])
        fitting = (name for name in ranked if name != one.node_id and answer not in plain[name])
        found.append([name for name, _ in zip(fitting, range(number))])
    return found
