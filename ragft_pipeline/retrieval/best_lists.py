"""Each question's best nodes by cosine and BM25, and how they follow when nodes leave and come.

A score is the same to the bit whatever else is searched: BM25's statistics are frozen, and cosines
are those of vectors rounded to whole numbers, whose sums float32 holds exactly in any order. A list
has all nodes down to a score, at first `SPARE` more than are asked for. After a change the nodes
that left and those that came are scored, which says how many are listed now; only what came is
written. A question is searched for anew where too few are left, or where the lowest or highest
score of all nodes, between which scores are scaled, went or was passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.search import mix, rows_at_once, top_k

SPARE = 32
_LEVELS = 4000  # a unit vector's, so that no sum of a product passes 2 ** 24
_QUESTIONS = 512
_NONE = np.uint64(0xFFFFFFFFFFFFFFFF)  # the key of no node
_LOW = np.uint64(0xFFFFFFFF)
_S, _N, _F = pa.string(), pa.int32(), pa.float32()
STANDING = pa.schema(
    [
        ("question_id", _S),
        ("bounds", pa.list_(_F)),
        ("having", pa.list_(_N)),
        ("floor", _F),
        ("last", _S),
        ("listed", _N),
        ("above", _N),
        ("answers", pa.list_(_S)),
        ("answer_scores", pa.list_(_F)),
    ]
)
"""What is known of a question's list: the lowest and highest cosine and BM25 score of all nodes and
how many have them; the score and id of the last that was listed (score -1: all are); how many are;
how many of these are before the one that answers, -1 where it is none of them, or not one that
answers; the nodes that answer and their scores, of 0 to 1 as the list's.
"""
ENTRIES = pa.schema(
    [
        ("question_id", _S),
        ("whole", pa.bool_()),
        ("node_ids", pa.list_(_S)),
        ("scores", pa.list_(_F)),
    ]
)
"""Entries of lists, whole ones or what is added to them."""


def rounded(vectors: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return unit vectors as whole numbers, float32; a coordinate is off by 1/8000 at most.

    Args:
        out: where they go; `vectors` itself may be given.
    """
    scaled = np.multiply(vectors, np.float32(_LEVELS), out=out)
    return np.asarray(np.rint(scaled, out=scaled))


@dataclass(frozen=True)
class Asked:
    """Questions: ids, texts, rounded vectors (questions, width), and the nodes that answer."""

    ids: Sequence[str]
    texts: Sequence[str]
    vectors: np.ndarray
    answers: Sequence[Sequence[str]]

    def at(self, places: np.ndarray) -> Asked:
        """Return some of them."""
        return Asked(
            [self.ids[place] for place in places],
            [self.texts[place] for place in places],
            self.vectors[places],
            [self.answers[place] for place in places],
        )


@dataclass(frozen=True)
class Searched:
    """Nodes by ascending ids, their rounded vectors (nodes, width), and BM25 over them."""

    ids: Sequence[str]
    vectors: np.ndarray
    lexical: LexicalIndex

    def scores(self, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
        """Return cosines, in their own scale, and BM25 scores, float32 (questions, nodes)."""
        if not len(self.ids):
            nothing = np.zeros((len(asked.ids), 0), np.float32)
            return nothing, nothing
        return asked.vectors @ self.vectors.T, self.lexical.scores(asked.texts)


@dataclass(frozen=True)
class Scored:
    """Nodes by ascending ids, and what they score for the questions of a search.

    Attributes:
        questions: their ids.
        dense, words: as `Searched.scores` returns them.
    """

    ids: Sequence[str]
    questions: Sequence[str]
    dense: np.ndarray
    words: np.ndarray

    def scores(self, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
        """Return those of some questions."""
        place = {question: row for row, question in enumerate(self.questions)}
        rows = [place[question] for question in asked.ids]
        return self.dense[rows], self.words[rows]


@dataclass(frozen=True)
class Part:
    """What a change made of lists: the nodes that left, and then ENTRIES, here or in a file."""

    gone: Sequence[str]
    entries: pa.Table | Path

    def read(self) -> pa.Table:
        """Return the entries."""
        if isinstance(self.entries, Path):
            return pq.read_table(self.entries, read_dictionary=["node_ids.list.element"])
        return self.entries

    @property
    def size(self) -> int:
        """How many entries there are."""
        if isinstance(self.entries, Path):
            groups = pq.read_metadata(self.entries)
            each = range(groups.num_row_groups)
            return sum(int(groups.row_group(one).column(2).num_values) for one in each)
        return len(_flat(self.entries, "node_ids"))


def search(
    asked: Asked, nodes: Searched | Scored, dense_weights: Sequence[float], depth: int
) -> list[tuple[pa.Table, pa.Table]]:
    """Return by weight the STANDING of questions, one at least, and the ENTRIES of their lists."""
    size = rows_at_once(len(nodes.ids), _QUESTIONS)
    names = pa.array(nodes.ids, _S)
    found: list[list[tuple[pa.Table, pa.Table]]] = []
    for start in range(0, len(asked.ids), size):
        block = asked.at(np.arange(start, min(start + size, len(asked.ids))))
        dense, words = nodes.scores(block)
        ends = [end(axis=1) for scores in (dense, words) for end in (scores.min, scores.max)]
        having = [
            np.count_nonzero(scores == end[:, None], axis=1)
            for scores, end in zip((dense, dense, words, words), ends)
        ]
        bounds = np.stack(ends, axis=1)
        of_all = _lists(bounds), _lists(np.stack(having, axis=1), np.int32)
        scaled = _scaled(dense, words, bounds)
        found.append(
            [_best(block, names, of_all, mix(*scaled, weight), depth) for weight in dense_weights]
        )
    return [
        (pa.concat_tables([one for one, _ in own]), pa.concat_tables([one for _, one in own]))
        for own in zip(*found)
    ]


def _best(
    asked: Asked,
    names: pa.Array,
    of_all: tuple[pa.ListArray, pa.ListArray],
    mixed: np.ndarray,
    depth: int,
) -> tuple[pa.Table, pa.Table]:
    """Return the STANDING and the ENTRIES of some questions by their scores of all nodes.

    Args:
        of_all: the bounds of the scores that were mixed, and how many nodes have them.
    """
    best = top_k(mixed, depth + SPARE)
    scores = np.take_along_axis(mixed, best, axis=1)
    asking = np.repeat(np.arange(len(asked.ids)), [len(own) for own in asked.answers])
    answers = pc.index_in(pa.array(chain.from_iterable(asked.answers), _S), names).to_numpy()
    above = np.full(len(asked.ids), -1)
    alone = (np.bincount(asking, minlength=len(above)) == 1)[asking]
    found = best[asking[alone]] == answers[alone, None]
    above[asking[alone]] = np.where(found.any(axis=1), found.argmax(axis=1), -1)
    every = best.shape[1] == len(names)
    standing = [
        asked.ids, *of_all,
        np.full(len(best), -1) if every else scores[:, -1], names.take(pa.array(best[:, -1])),
        np.full(len(best), best.shape[1]), above, asked.answers,
        _runs(mixed[asking, answers], asking, len(best)),
    ]  # fmt: skip
    entries = [
        asked.ids,
        np.full(len(best), True),
        _runs(names.take(pa.array(best.reshape(-1))), *_each(best)),
        _lists(scores),
    ]
    return _table(standing, STANDING), _table(entries, ENTRIES)


def follow(
    kept: pa.Table,
    asked: Asked,
    gone: Searched,
    came: Searched,
    nodes: int,
    dense_weight: float,
    depth: int,
) -> tuple[pa.Table, pa.Table, np.ndarray]:
    """Return the STANDING of questions after a change, what it adds, and who is searched for anew.

    Args:
        kept: the STANDING before, by the same weight and statistics.
        asked: the questions that it is of.
        gone, came: nodes of the texts that left and that came.
        nodes: how many there are now.
    """
    bounds, having = _fours(kept, "bounds"), _fours(kept, "having").copy()
    floor, listed, above = (kept.column(name).to_numpy() for name in ("floor", "listed", "above"))
    last, (best, answer) = np.array(kept.column("last").to_pylist(), str), _answering(kept, above)
    passed = np.zeros(bounds.shape, bool)
    for sign, part in ((-1, gone), (1, came)):
        dense, words = part.scores(asked)
        for place, own in enumerate((dense, dense, words, words)):
            bound = bounds[:, place, None]
            having[:, place] += sign * np.count_nonzero(own == bound, axis=1)
            if sign > 0:
                passed[:, place] = (own > bound if place % 2 else own < bound).any(axis=1)
        mixed, ids = mix(*_scaled(dense, words, bounds), dense_weight), np.array(part.ids, str)
        within = _up_to(mixed, ids, floor, last) | (floor < 0)[:, None]
        listed = listed + sign * within.sum(axis=1)
        above = above + sign * (_up_to(mixed, ids, best, answer).sum(axis=1) * (above >= 0))
    rows, which = np.nonzero(within)
    changed, at = np.unique(rows, return_inverse=True)
    names = pa.array(came.ids, _S)
    entries = [
        [asked.ids[row] for row in changed],
        np.full(len(changed), False),
        _runs(names.take(pa.array(which)), at, len(changed)),
        _runs(mixed[rows, which], at, len(changed)),
    ]
    used = [dense_weight > 0] * 2 + [dense_weight < 1] * 2
    anew = ((having <= 0) | passed)[:, used].any(axis=1) | (listed < min(depth, nodes))
    others = {*gone.ids, *came.ids}
    anew |= [
        before != now or not others.isdisjoint(now)
        for before, now in zip(kept.column("answers").to_pylist(), asked.answers)
    ]
    standing = kept
    for name, values in (
        ("having", _lists(having, np.int32)),
        ("listed", listed),
        ("above", above),
    ):
        field = STANDING.field(name)
        standing = standing.set_column(
            STANDING.get_field_index(name), field, pa.array(values).cast(field.type)
        )
    return standing, _table(entries, ENTRIES), np.asarray(anew, bool)


def ranked(
    parts: Sequence[Part], questions: Sequence[str], width: int | None = None
) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Return the lists of some questions as a search and the changes after it made them.

    Returns the names that entries are places of, ascending; int64 (questions, entries), the best of
    all nodes, best first, of equally good ones the first by id; and their scores. Longer lists are
    cut to `width`; -1 where one has no more.
    """
    ids = pa.array(questions, _S)
    read = []
    begun = np.zeros(len(ids), np.int64)
    for number, part in enumerate(parts):
        rows = part.read()
        at = pc.index_in(rows.column("question_id"), ids)
        rows, at = rows.filter(pc.is_valid(at)).combine_chunks(), at.drop_null().to_numpy()
        begun[at[rows.column("whole").to_numpy()]] = number
        read.append((rows, at))
    flat = [_flat(rows, "node_ids").dictionary_encode() for rows, _ in read]
    names = pc.unique(pa.concat_arrays([one.dictionary for one in flat]))
    names = names.take(pc.sort_indices(names))
    left = np.full(len(names), -1)
    for number, part in enumerate(parts):
        places = pc.index_in(pa.array(part.gone, _S), names).drop_null()
        left[places.to_numpy()] = number
    filled = np.zeros(len(ids), np.int64)
    found = []
    for number, ((rows, at), ones) in enumerate(zip(read, flat)):
        lengths = pc.list_value_length(rows.column("node_ids")).to_numpy()
        own = np.repeat(at, lengths)
        nodes = pc.index_in(ones.dictionary, names).to_numpy()[ones.indices.to_numpy()]
        held = (begun[own] <= number) & (left[nodes] <= number)
        own, nodes, scores = own[held], nodes[held], _flat(rows, "scores").to_numpy()[held]
        starts = np.flatnonzero(np.diff(own, prepend=-1))
        column = np.arange(len(own)) - np.repeat(starts, np.diff(starts, append=len(own)))
        found.append((own, filled[own] + column, _keys(nodes, scores)))
        filled += np.bincount(own, minlength=len(ids))
    keys = np.full((len(ids), int(filled.max(initial=0))), _NONE)
    for own, column, values in found:
        keys[own, column] = values
    if len(parts) > 1:
        keys.sort(axis=1)
    return names, *_entries(keys[:, :width])


def listed(
    questions: Sequence[str], names: pa.Array, nodes: np.ndarray, scores: np.ndarray
) -> pa.Table:
    """Return what `ranked` gave of questions as ENTRIES of whole lists."""
    held = nodes >= 0
    rows, number = np.nonzero(held)[0], len(held)
    ids = names.take(pa.array(nodes[held]))
    lists = [_runs(ids, rows, number), _runs(scores[held], rows, number)]
    return _table([questions, np.full(number, True), *lists], ENTRIES)


def _answering(kept: pa.Table, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the score and id of each question's answer where it is one that is listed."""
    scores, names = np.full(len(above), 2, np.float32), np.full(len(above), "", object)
    told = kept.filter(pa.array(above >= 0))
    scores[above >= 0] = _flat(told, "answer_scores").to_numpy()
    names[above >= 0] = _flat(told, "answers").to_pylist()
    return scores, names.astype(str)


def _up_to(scores: np.ndarray, ids: np.ndarray, score: np.ndarray, node: np.ndarray) -> np.ndarray:
    """Say which nodes come no later than one node a question, bool (questions, nodes)."""
    own = score[:, None]
    return np.asarray((scores > own) | ((scores == own) & (ids <= node[:, None])))


def _scaled(
    dense: np.ndarray, words: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores scaled to 0..1 between their bounds, float32 (questions, 4)."""
    low, high, least, most = np.moveaxis(bounds[:, None], -1, 0)

    def between(scores: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.asarray((scores - low) / np.where(high > low, high - low, np.float32(1)))

    return between(dense, low, high), between(words, least, most)


def _keys(nodes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return whole numbers that ascend as lists do: by falling scores, then by nodes."""
    falling = (~scores.astype(np.float32).view(np.uint32)).astype(np.uint64) << np.uint64(32)
    return np.asarray(falling | nodes.astype(np.uint64))


def _entries(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and scores that keys were made of."""
    nodes = np.where(keys == _NONE, -1, (keys & _LOW).astype(np.int64))
    scores = (~(keys >> np.uint64(32)).astype(np.uint32)).view(np.float32)
    return nodes, np.where(keys == _NONE, np.float32(-1), scores)


def _flat(table: pa.Table, name: str) -> pa.Array:
    """Return the entries of a table's lists."""
    return table.column(name).combine_chunks().flatten()


def _fours(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(_flat(table, name)).reshape(-1, 4)


def _table(columns: Sequence[object], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(one, field.type) for one, field in zip(columns, schema)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _each(values: np.ndarray) -> tuple[np.ndarray, int]:
    return np.repeat(np.arange(len(values)), values.shape[1]), len(values)


def _lists(values: np.ndarray, kind: type = np.float32) -> pa.ListArray:
    """Return the rows of a matrix as lists."""
    return _runs(values.reshape(-1).astype(kind), *_each(values))


def _runs(values: object, rows: np.ndarray, number: int) -> pa.ListArray:
    """Return values as the lists of rows, which ascend."""
    ends = np.append(0, np.cumsum(np.bincount(rows, minlength=number))).astype(np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(values))
