"""How a system looks at pools: scores by the statistics of now, scaled over all nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ragft_pipeline.evaluation.pools import PLAIN, TITLE, Pool, Shape, Tally
from ragft_pipeline.retrieval.evidence import Candidates, Lengths, Neighbours, candidates
from ragft_pipeline.retrieval.wording import inverse_frequency

_BLOCK = 64  # questions ranked at once


@dataclass(frozen=True)
class Scaled:
    """A pool's scores by the statistics of now, scaled over all nodes as `min_max` does.

    Attributes:
        dense: by each retriever, float32 (retrievers, members).
        words: BM25 by kind of text, float32 (members,).
        shares: of the question's terms and of its pairs, `Profiles.shares`.
        raw: BM25's scores as they are, by kind.
        ends: the lowest and highest of these scores of all nodes.
    """

    dense: np.ndarray
    words: Mapping[str, np.ndarray]
    shares: tuple[np.ndarray, np.ndarray]
    raw: Mapping[str, np.ndarray]
    ends: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, pool: Pool, tally: Tally, shape: Shape) -> Scaled:
        """Return the scores of a pool that holds the extremes."""
        asked = {kind: tally.wording(kind, pool.question) for kind in shape.texts}
        now = {kind: tally.statistics(kind, own) for kind, own in asked.items()}
        idf = {kind: own.idf for kind, own in now.items()}
        raw = {
            kind: own.bm25(asked[kind], idf[kind], now[kind].mean)
            for kind, own in pool.profiles.items()
        }
        ends_of = {kind: (float(own.min()), float(own.max())) for kind, own in raw.items()}
        if (edge := pool.edge) is not None:
            most = {kind: high for kind, (_, high) in ends_of.items()}
            most[TITLE] = float(edge.titles.scores(asked[TITLE], now[TITLE]).max(initial=0.0))
            ends_of = {k: (edge.least(k, asked[k], now[k]), most[k]) for k in raw}
        words = {kind: _between(own, *ends_of[kind]) for kind, own in raw.items()}
        dense = [_between(own, float(own.min()), float(own.max())) for own in pool.cosines]
        read, rarest = shape.read, inverse_frequency(tally.nodes, np.array(1))
        shares = pool.profiles[read].shares(
            asked[read], idf[read], now[read].having > 0, float(rarest)
        )
        return cls(np.stack(dense), words, shares, raw, ends_of)


def _between(scores: np.ndarray, low: float, high: float) -> np.ndarray:
    start, span = np.float32(low), np.float32(high) - np.float32(low)
    return np.asarray((scores - start) / (span if span > 0 else np.float32(1)))


@dataclass(frozen=True)
class Look:
    """A block of questions as a hybrid sees them: the scores of the same nodes, scaled.

    Attributes:
        dense, words: float32 (questions, columns).
        nodes: what the columns are, int (questions, columns).
    """

    name: str
    dense: np.ndarray
    words: np.ndarray
    nodes: np.ndarray
    _candidates: partial[Candidates]

    def named(self, columns: np.ndarray) -> np.ndarray:
        """Return the nodes that some columns of each question are."""
        return np.take_along_axis(self.nodes, columns, axis=1)

    def candidates(self) -> Candidates:
        """Return the best 100 of the hybrid and their evidence."""
        return self._candidates()


def looks(
    pools: Sequence[Pool],
    tally: Tally,
    shape: Shape,
    around: Neighbours,
    base: str,
    wanted: Sequence[str],
) -> Iterator[tuple[slice, Iterator[Look]]]:
    """Yield blocks of questions: which, and the looks of some retrievers' hybrids.

    Args:
        base: the retriever whose cosine is evidence beside the others'.
        wanted: names of retrievers.
    """
    lengths = Lengths(*(np.array([*own]) for own in _pairs(tally.characters)))
    for start in range(0, len(pools), _BLOCK):
        block = pools[start : start + _BLOCK]
        scaled = [Scaled.of(pool, tally, shape) for pool in block]
        yield (
            slice(start, start + len(block)),
            _looks(block, scaled, lengths, shape, around, base, wanted),
        )


def _pairs(counted: Counter[int]) -> tuple[Sequence[int], Sequence[int]]:
    ordered = sorted(counted.items())
    return [key for key, _ in ordered], [number for _, number in ordered]


def _looks(
    pools: Sequence[Pool],
    scaled: Sequence[Scaled],
    lengths: Lengths,
    shape: Shape,
    around: Neighbours,
    base: str,
    wanted: Sequence[str],
) -> Iterator[Look]:
    width = max(len(pool.nodes) for pool in pools)

    def beside(rows: Sequence[np.ndarray], rest: float) -> np.ndarray:
        """Put rows of several lengths into one matrix; what is added comes last in any order."""
        matrix = np.full((len(rows), width), rest, rows[0].dtype)
        for row, own in enumerate(rows):
            matrix[row, : len(own)] = own
        return matrix

    names = list(shape.kinds)
    none = len(around.document) + 1  # no node, nor what stands beside the last
    nodes = beside([pool.nodes for pool in pools], none)
    words = {
        kind: beside([own.words[kind] for own in scaled], -1.0)
        for kind in dict.fromkeys((*shape.texts, PLAIN))
    }
    dense = {
        name: beside([own.dense[names.index(name)] for own in scaled], -1.0)
        for name in dict.fromkeys((*wanted, base))
    }
    alike = {
        "base": dense[base],
        "words": words[PLAIN],
        "title": words[TITLE],
        "coverage": beside([own.shares[0] for own in scaled], -1.0),
        "bigrams": beside([own.shares[1] for own in scaled], -1.0),
        "length": beside([lengths.scaled(pool.characters) for pool in pools], -1.0),
    }

    def others(best: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.take_along_axis(own, best, axis=1) for name, own in alike.items()}

    for name in wanted:
        own = dense[name], words[shape.kinds[name]], nodes
        yield Look(name, *own, partial(candidates, *own, around, others))
