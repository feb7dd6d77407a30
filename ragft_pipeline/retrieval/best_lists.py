"""Each question's best nodes by cosine and BM25, and how they follow when nodes leave and come.

A score is the same to the bit whatever else is searched: BM25's statistics are frozen, and cosines
are those of vectors rounded to whole numbers, whose sums float32 holds exactly in any order. A list
holds `SPARE` more nodes than are asked for. After a change the nodes that left are struck out and
those that came are scored; a question is searched for anew where too few are left, or where the
lowest or highest score of all nodes, between which scores are scaled, went or was passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.search import mix, rows_at_once, top_k

SPARE = 32
_LEVELS = 4000  # a unit vector's, so that no sum of a product passes 2 ** 24
_QUESTIONS = 512
_NONE = np.uint64(0xFFFFFFFFFFFFFFFF)  # the key of no node
_LOW = np.uint64(0xFFFFFFFF)


def rounded(vectors: np.ndarray) -> np.ndarray:
    """Return unit vectors as whole numbers, float32; a coordinate is off by 1/8000 at most."""
    return np.rint(vectors * np.float32(_LEVELS))


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
class BestLists:
    """The lists of questions.

    Attributes:
        ids: the questions'.
        names: the nodes' ids that entries are places of, ascending; string array.
        nodes: int64 (questions, entries): the best of all nodes, best first, of equally good ones
            the first by id; -1 where there are no more.
        scores: float32 (questions, entries), 0..1; -1 where there is no node.
        asking, answers, answer_scores: pairs of a question, ascending, a node that answers it, and
            that node's score.
        bounds: float32 (questions, 4): the lowest and the highest cosine and BM25 score.
        having: int64 (questions, 4): how many nodes have them.
    """

    ids: Sequence[str]
    names: pa.Array
    nodes: np.ndarray
    scores: np.ndarray
    asking: np.ndarray
    answers: np.ndarray
    answer_scores: np.ndarray
    bounds: np.ndarray
    having: np.ndarray

    @property
    def ranked(self) -> np.ndarray:
        """How long each list is, int (questions,)."""
        return np.asarray((self.nodes >= 0).sum(axis=1))

    def at(self, questions: np.ndarray) -> BestLists:
        """Return those of some questions, in that order."""
        place = np.full(len(self.ids), -1)
        place[questions] = np.arange(len(questions))
        asking = place[self.asking]
        pairs = np.argsort(asking, kind="stable")[np.count_nonzero(asking < 0) :]
        return BestLists(
            [self.ids[one] for one in questions], self.names,
            self.nodes[questions], self.scores[questions],
            asking[pairs], self.answers[pairs], self.answer_scores[pairs],
            self.bounds[questions], self.having[questions],
        )  # fmt: skip

    def over(self, names: pa.Array) -> BestLists:
        """Return them as places of other names, which have all that are listed."""
        place = np.append(pc.fill_null(pc.index_in(self.names, names), -1).to_numpy(), -1)
        return BestLists(
            self.ids, names, place[self.nodes], self.scores,
            self.asking, place[self.answers], self.answer_scores, self.bounds, self.having,
        )  # fmt: skip

    @classmethod
    def joined(cls, parts: Sequence[BestLists]) -> BestLists:
        """Return the lists of different questions as one."""
        names = _ascending(*(part.names for part in parts))
        width = max(part.nodes.shape[1] for part in parts)
        starts = np.cumsum([0, *(len(part.ids) for part in parts)])
        moved = [part.over(names) for part in parts]

        def padded(values: np.ndarray) -> np.ndarray:
            spare = width - values.shape[1]
            return np.pad(values, ((0, 0), (0, spare)), constant_values=-1) if spare else values

        return cls(
            [one for part in parts for one in part.ids],
            names,
            np.concatenate([padded(part.nodes) for part in moved]),
            np.concatenate([padded(part.scores) for part in moved]),
            np.concatenate([part.asking + start for part, start in zip(moved, starts)]),
            np.concatenate([part.answers for part in moved]),
            np.concatenate([part.answer_scores for part in moved]),
            np.concatenate([part.bounds for part in moved]),
            np.concatenate([part.having for part in moved]),
        )


def search(asked: Asked, nodes: Searched, dense_weight: float, depth: int) -> BestLists:
    """Return each question's best `depth` nodes and some to spare, for one question at least."""
    size = rows_at_once(len(nodes.ids), _QUESTIONS)
    names = pa.array(nodes.ids, pa.string())
    parts = []
    for start in range(0, len(asked.ids), size):
        block = asked.at(np.arange(start, min(start + size, len(asked.ids))))
        dense, words = nodes.scores(block)
        ends = [end(axis=1) for scores in (dense, words) for end in (scores.min, scores.max)]
        having = [
            np.count_nonzero(scores == end[:, None], axis=1)
            for scores, end in zip((dense, dense, words, words), ends)
        ]
        bounds = np.stack(ends, axis=1)
        mixed = _mixed(dense, words, bounds[:, None], dense_weight)
        best = top_k(mixed, depth + SPARE)
        pairs = _pairs(block.answers, names)
        parts.append(
            BestLists(
                block.ids, names, best, np.take_along_axis(mixed, best, axis=1),
                *pairs, mixed[pairs], bounds, np.stack(having, axis=1),
            )
        )  # fmt: skip
    return BestLists.joined(parts)


def follow(
    kept: BestLists,
    asked: Asked,
    gone: Searched,
    came: Searched,
    nodes: int,
    dense_weight: float,
    depth: int,
) -> tuple[BestLists, np.ndarray]:
    """Return lists as they are after a change, and which of them must be searched for anew.

    Args:
        kept: the lists before, by the same weight and statistics.
        asked: the questions that they are of.
        gone, came: nodes of the texts that left and that came.
        nodes: how many there were.
    """
    kept = kept.over(_ascending(kept.names, pa.array(came.ids, pa.string())))
    new = pc.index_in(pa.array(came.ids, pa.string()), kept.names).to_numpy()
    struck = pc.is_in(kept.names, pa.array(gone.ids, pa.string())).to_numpy(False)
    struck = np.append(struck, False)
    having, passed = kept.having.copy(), np.zeros(kept.bounds.shape, bool)
    scores = {}
    for sign, part in ((-1, gone), (1, came)):
        scores[sign] = part.scores(asked)
        for place in range(4):
            own, bound = scores[sign][place // 2], kept.bounds[:, place, None]
            having[:, place] += sign * np.count_nonzero(own == bound, axis=1)
            if sign > 0:
                passed[:, place] = (own > bound if place % 2 else own < bound).any(axis=1)
    mixed = _mixed(*scores[1], kept.bounds[:, None], dense_weight)
    keys, coming = _keys(kept.nodes, kept.scores), _keys(new, mixed)
    ranked = kept.ranked
    last = np.take_along_axis(keys, np.maximum(ranked - 1, 0)[:, None], axis=1)
    coming[(coming > last) & (ranked < nodes)[:, None]] = _NONE
    keys[struck[kept.nodes]] = _NONE
    found, found_scores = _entries(np.sort(np.concatenate([keys, coming], axis=1), axis=1))

    asking, answers = _pairs(asked.answers, kept.names)
    held = ~struck[kept.answers]
    rows, which = np.indices(mixed.shape).reshape(2, -1)
    known = _codes(np.append(kept.asking[held], rows), np.append(kept.answers[held], new[which]))
    order = np.argsort(known)
    values = np.append(kept.answer_scores[held], mixed.reshape(-1))[order]
    wanted = _codes(asking, answers)
    at = np.searchsorted(known[order], wanted).clip(max=max(0, len(known) - 1))
    told = known[order][at] == wanted if len(known) else np.zeros(len(wanted), bool)
    used = [dense_weight > 0] * 2 + [dense_weight < 1] * 2
    anew = np.asarray(((having <= 0) | passed)[:, used].any(axis=1))
    anew[asking[~told]] = True
    width = depth + SPARE
    lists = BestLists(
        kept.ids, kept.names, found[:, :width], found_scores[:, :width],
        asking[told], answers[told], values[at[told]], kept.bounds, having,
    )  # fmt: skip
    return lists, anew | (lists.ranked < min(depth, nodes - len(gone.ids) + len(came.ids)))


def _mixed(
    dense: np.ndarray, words: np.ndarray, bounds: np.ndarray, dense_weight: float
) -> np.ndarray:
    """Return the mixture of scores scaled to 0..1 between their bounds, float32 (…, 4)."""

    def scaled(scores: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.asarray((scores - low) / np.where(high > low, high - low, np.float32(1)))

    low, high, least, most = np.moveaxis(bounds, -1, 0)
    return mix(scaled(dense, low, high), scaled(words, least, most), dense_weight)


def _keys(nodes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return whole numbers that ascend as lists do: by falling scores, then by nodes."""
    falling = (~scores.astype(np.float32).view(np.uint32)).astype(np.uint64) << np.uint64(32)
    return np.where(nodes < 0, _NONE, falling | nodes.astype(np.uint64) & _LOW)


def _entries(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and scores that keys were made of."""
    nodes = np.where(keys == _NONE, -1, (keys & _LOW).astype(np.int64))
    scores = (~(keys >> np.uint64(32)).astype(np.uint32)).view(np.float32)
    return nodes, np.where(keys == _NONE, np.float32(-1), scores)


def _pairs(answers: Sequence[Sequence[str]], names: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return questions and their answers as places of names, int (pairs,); -1 of other nodes."""
    asking = np.repeat(np.arange(len(answers)), [len(own) for own in answers])
    nodes = pa.array(chain.from_iterable(answers), pa.string())
    return asking, pc.fill_null(pc.index_in(nodes, names), -1).to_numpy()


def _codes(rows: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    return np.asarray((rows.astype(np.int64) << 32) + nodes)


def _ascending(*names: pa.Array) -> pa.Array:
    """Return all that some arrays hold, each once."""
    every = pc.unique(pa.concat_arrays(names))
    return every.take(pc.sort_indices(every))
