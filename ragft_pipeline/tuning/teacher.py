"""Teacher scores: how a hybrid of BM25 and the base embedder ranks the train nodes.

A lexical and a dense ranker err differently; their sum is a better teacher for the dense one than
either. A cross-encoder that the user has may rank the hybrid's best
anew. Only train questions and train nodes enter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.corpus.nodes import named, node_texts
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.retrieval.reranking import (
    Reranker,
    blend,
    cached_pair_scores,
    is_cross_encoder,
)
from ragft_pipeline.settings import RerankerSettings, Settings, TeacherSettings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.data import Questions
from ragft_pipeline.tuning.followed_lists import FirstLook, KeptLists, Lists
from ragft_pipeline.tuning.late_teacher import late_scores
from ragft_pipeline.tuning.teacher_lists import LISTS, whole_scores

_LATE_DEPTH = 64
_NO_SOURCE = -1
_NOTHING = schemas.TEACHER_SCORES.schema.empty_table()


def score_with_teacher(
    pairs: pa.Table,
    nodes: pa.Table,
    statistics: TermStatistics,
    bm25_weight: float,
    settings: Settings,
    work: Workspace,
) -> pa.Table:
    """Return a TEACHER_SCORES table: each question's best nodes, best first, 0..1.

    BM25 and the base embedder are min-max over all nodes; see `judged`.
    """
    questions = Questions.from_table(pairs)
    if not len(questions):
        return _NOTHING
    look = teacher_look(
        lambda ids: node_texts(named(nodes, ids)), statistics, bm25_weight, settings, work
    )
    lists = look.lists(questions)[0]
    return whole_scores(judged(look, questions, lists), lists)


def teacher_look(
    read: Callable[[Sequence[str] | None], Mapping[str, str]],
    statistics: TermStatistics,
    bm25_weight: float,
    settings: Settings,
    work: Workspace,
    kept: KeptLists | None = None,
) -> FirstLook:
    """Return the teacher's look at the train nodes, which `read` returns as they are read."""
    depth = settings.teacher.depth
    return FirstLook(read, statistics, [bm25_weight], depth, settings, work, LISTS, kept)


def judged(look: FirstLook, questions: Questions, lists: Lists) -> pa.Table:
    """Return TEACHER_SCORES: null where they are the best of the first look's lists, as they are.

    The `teacher.depth` best are kept, and always the source node of a question that has one. Where
    several nodes answer it, each has the score of the best of them: none is a negative. Late
    interaction is mixed into the best 64 of some questions (of all it taught five tools' maps .624
    against .610, COVID-QA's the same); with `teacher.model`, a cross-encoder, the best
    `teacher.reranked` are ordered by both.
    """
    settings, work, recipe = look.settings, look.work, look.settings.teacher
    late = min(recipe.late_questions, len(questions)) if recipe.late_interaction else 0
    above = lists.standing.column("above").to_numpy()
    answers, answer_scores = (
        lists.standing.column(name).to_pylist() for name in ("answers", "answer_scores")
    )
    again = np.array([len(own) > 0 for own in answers]) & ((above < 0) | (above >= lists.width))
    again[: len(again) if recipe.model is not None else late] = True
    rows = np.flatnonzero(again)
    if not len(rows):
        return _with_nulls(_NOTHING, questions.ids, again)
    names, nodes, worth = lists.best([questions.ids[row] for row in rows], None)
    own = [answers[row] for row in rows]
    scores = [answer_scores[row] for row in rows]
    names, listed, listed_scores = _shortlists(names, nodes, worth, own, scores, lists.width)
    texts = [questions.texts[row] for row in rows]
    if late:
        shown = listed[:late, :_LATE_DEPTH]
        asked = _pairs(look, texts[:late], names, shown)
        judged = late_scores(look, asked).reshape(shown.shape)
        listed[:late], listed_scores[:late] = _blended(
            listed[:late], listed_scores[:late], judged, recipe.late_interaction
        )
    if recipe.model is not None:
        shown = listed[:, : recipe.reranked]
        asked = _pairs(look, texts, names, shown)
        judged = _reranked(asked, recipe, settings, work).reshape(shown.shape)
        listed, listed_scores = _blended(listed, listed_scores, judged, recipe.model_weight)
    for row, nodes_of in enumerate(own):  # what a second judge told apart is as good
        if len(nodes_of) > 1:
            places = pc.index_in(pa.array(nodes_of, pa.string()), names)
            places = np.isin(listed[row], places.drop_null().to_numpy())
            listed_scores[row, places] = listed_scores[row, places].max()
    listed, listed_scores = _best_first(listed, listed_scores)
    table = pa.table(
        {
            "question_id": [questions.ids[row] for row in rows],
            "node_ids": _lists(names.take(pa.array(listed.reshape(-1))), listed),
            "scores": _lists(pa.array(listed_scores.reshape(-1)), listed),
        },
        schema=schemas.TEACHER_SCORES.schema,
    )
    return _with_nulls(table, questions.ids, again)


def _with_nulls(table: pa.Table, ids: list[str], there: np.ndarray) -> pa.Table:
    """Return a table of some questions as one of all, null where the others are."""
    places = pa.array(np.cumsum(there) - 1, mask=~there)
    return table.take(places).set_column(0, "question_id", pa.array(ids, pa.string()))


def _shortlists(
    names: pa.Array,
    nodes: np.ndarray,
    worth: np.ndarray,
    answers: list[list[str]],
    answer_scores: list[list[float]],
    width: int,
) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Return names, and each question's best nodes as places of these, and their scores.

    The nodes that answer a question are among them, each with the score of the best of these.
    """
    every = pc.unique(
        pa.concat_arrays([names, pa.array(chain.from_iterable(answers), pa.string())])
    )
    every = every.take(pc.sort_indices(every))
    nodes = np.where(nodes < 0, -1, pc.index_in(names, every).to_numpy()[nodes])
    listed, scores = nodes[:, :width].copy(), worth[:, :width].copy()
    for row, (own, own_scores) in enumerate(zip(answers, answer_scores)):
        if not own:
            continue
        places = np.unique(pc.index_in(pa.array(own, pa.string()), every).to_numpy())[:width]
        others = np.isin(nodes[row], places, invert=True) & (nodes[row] >= 0)
        best = np.full(len(places), max(own_scores), np.float32)
        both = np.append(places, nodes[row][others])[:width]
        values = np.append(best, worth[row][others])[:width]
        order = np.lexsort((both, -values))
        listed[row], scores[row] = both[order], values[order]
    return every, listed, scores


def _pairs(
    look: FirstLook, questions: list[str], names: pa.Array, listed: np.ndarray
) -> list[tuple[str, str]]:
    """Return each question with each node that is listed for it, as it is read.

    Args:
        listed: places in `names`, int (questions, nodes).
    """
    places, own = np.unique(listed, return_inverse=True)
    ids = names.take(pa.array(places)).to_pylist()
    read = look.some(ids)
    passages = [read[node_id] for node_id in ids]
    return [
        (question, passages[place])
        for question, row in zip(questions, own.reshape(listed.shape))
        for place in row
    ]


def _reranked(
    pairs: list[tuple[str, str]], recipe: TeacherSettings, settings: Settings, work: Workspace
) -> np.ndarray:
    """Return a cross-encoder's scores of pairs."""
    assert recipe.model is not None
    own = RerankerSettings(
        model=recipe.model,
        max_tokens=recipe.max_tokens,
        trust_remote_code=recipe.trust_remote_code,
    )
    folder = resolve_weights(recipe.model).folder
    if not is_cross_encoder(folder):
        raise RagftError(
            f"teacher.model = {recipe.model!r} is no cross-encoder (a model that scores pairs)"
        )
    scorer = Reranker(folder, own, settings.compute)
    return cached_pair_scores(work, "teacher", scorer, pairs)


def _blended(
    listed: np.ndarray, scores: np.ndarray, judged: np.ndarray, weight: float
) -> tuple[np.ndarray, np.ndarray]:
    """Order the first of each list by the blend with other scores of them.

    The blend spans from the score of the last of them to 1: what lies below stays below.
    """
    depth = judged.shape[1]
    floor = scores[:, depth - 1 : depth]
    mixed = floor + (1 - floor) * blend(scores[:, :depth], judged, weight)
    top, top_scores = _best_first(listed[:, :depth], mixed)
    return (
        np.concatenate([top, listed[:, depth:]], axis=1),
        np.concatenate([top_scores, scores[:, depth:]], axis=1).astype(np.float32),
    )


def _best_first(nodes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(nodes, order, axis=1), np.take_along_axis(scores, order, axis=1)


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
        self._scores = scores.column("scores").combine_chunks().flatten().to_numpy()
        column = {node_id: index for index, node_id in enumerate(node_ids)}
        own = [column[node_id] if node_id else _NO_SOURCE for node_id in questions.node_ids]
        self._own = np.array(own, np.int64)
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
        own = self._own[batch]
        return np.unique(np.concatenate([own[own != _NO_SOURCE], *listed, rest]))

    def dense(self, batch: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores, float32 (batch, columns), and the column of each source, -1 for none.

        A node that the teacher did not list is taken for as good as the worst listed one.
        """
        place = np.full(self._width, -1)
        place[columns] = np.arange(len(columns))
        target = np.empty((len(batch), len(columns)), np.float32)
        for row, question in enumerate(batch):
            part = slice(self._offsets[question], self._offsets[question + 1])
            scores = self._scores[part]
            here = place[self._nodes[part]]
            target[row] = scores.min()
            target[row, here[here >= 0]] = scores[here >= 0]
        own = self._own[batch]
        return target, np.where(own == _NO_SOURCE, _NO_SOURCE, place[own])
