"""Pools: of each question the nodes that some system may rank, and all that their ranks depend on.

A pool holds what is among the best by any score or mixture, with room to spare, and what stands
beside the best. Cosines, lengths and counts of terms do not depend on other nodes; what does, the
frequencies of terms, is a tally of whole numbers. So every system's ranking follows from both,
and when documents change both follow (`evaluation.following`), while no other node is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ragft_pipeline.retrieval.evidence import Candidates, Lengths, Neighbours, candidates
from ragft_pipeline.retrieval.metrics import DEPTH
from ragft_pipeline.retrieval.search import MIDDLE
from ragft_pipeline.retrieval.wording import Profiles, Wording, inverse_frequency, wording

PLAIN, READ, TITLE = "plain", "read", "title"
"""Texts of a node: alone, as models and BM25 read it where that is another, and what is above it.
"""
BLOCK = 64  # questions ranked at once


@dataclass(frozen=True)
class Shape:
    """How pools are cut.

    Attributes:
        kinds: by retriever, the texts that its vectors are of and that BM25 beside it counts.
        grid: the dense weights that hybrids try.
        depth: how deep systems rank.
        spare: how many more of the best are in a pool.
        whole: corpora of so many nodes have all of them in every pool.
    """

    kinds: Mapping[str, str]
    grid: tuple[float, ...]
    depth: int = DEPTH
    spare: int = 60
    whole: int = 400

    @property
    def weights(self) -> np.ndarray:
        """The dense weights of all mixtures, ascending, either end among them."""
        return np.unique([0.0, MIDDLE, 1.0, *self.grid])

    @property
    def texts(self) -> tuple[str, ...]:
        """The kinds of texts, those above the passages last."""
        return (*sorted(set(self.kinds.values())), TITLE)

    @property
    def read(self) -> str:
        """The kind of the texts that models read."""
        return READ if READ in self.kinds.values() else PLAIN


@dataclass(frozen=True)
class Statistics:
    """What BM25 of a question takes from all texts of a kind: whole numbers.

    Attributes:
        nodes: how many texts there are.
        length: how many terms they have together.
        having: how many texts have each term of the question, int64 (terms,).
    """

    nodes: int
    length: int
    having: np.ndarray

    @property
    def idf(self) -> np.ndarray:
        """The terms' inverse frequencies."""
        return inverse_frequency(self.nodes, self.having)

    @property
    def mean(self) -> float:
        """The texts' mean length."""
        return self.length / max(1, self.nodes)


@dataclass
class Tally:
    """Whole numbers about all nodes.

    Attributes:
        lengths: by kind, how many terms the texts have.
        having: by kind, how many texts have a term, for the terms of the questions.
        languages: by kind, how many texts are in each language.
        characters: how many nodes have how many characters.
    """

    nodes: int
    lengths: dict[str, int]
    having: dict[str, dict[str, int]]
    languages: dict[str, Counter[str]]
    characters: Counter[int]

    def wording(self, kind: str, question: str) -> Wording:
        """Return a question's terms in the forms that texts of a kind may have."""
        return wording(question, tuple(sorted(self.languages[kind])) or ("",))

    def statistics(self, kind: str, asked: Wording) -> Statistics:
        """Return the statistics of a question's terms."""
        known = self.having[kind]
        having = np.array([known[term] for term in asked.terms], np.int64)
        return Statistics(self.nodes, self.lengths[kind], having)


@dataclass(frozen=True)
class Edge:
    """What is known of the nodes outside a pool, when it was cut and by the statistics of then.

    Scores are scaled: cosines between the lowest and highest, BM25's by the highest. Everything has
    an entry a retriever, or is by kind of text.

    Attributes:
        statistics: those of then.
        cosines: the lowest and highest, float64 (retrievers, 2).
        ceilings: no outsider has a lower cosine, float64 (retrievers,).
        most: BM25's highest score.
        floors: no outsider has a higher mixture, float64 (retrievers, weights).
        others: no outsider has a higher BM25 score, scaled, but those that are like the last one.
        last: the place of the last by BM25, and what it has: outsiders like it come after it.
        titles: what titles with the best BM25 have, and the highest score of all others.
        title_nodes: how many nodes have each of these titles, now.
        without: how many nodes have none of the question's terms, now.
    """

    statistics: Mapping[str, Statistics]
    cosines: np.ndarray
    ceilings: np.ndarray
    most: Mapping[str, float]
    floors: np.ndarray
    others: Mapping[str, float]
    last: Mapping[str, tuple[int, Profiles]]
    titles: Profiles
    title_floor: float
    title_nodes: np.ndarray
    without: Mapping[str, int]


@dataclass(frozen=True)
class Pool:
    """A question's pool.

    Attributes:
        question: its text.
        queries: its vector by each retriever, float32 (width,).
        nodes: places, ascending, int64 (members,).
        cosines: by each retriever, float32 (retrievers, members).
        profiles: by kind of text.
        characters: of the texts alone, int32 (members,).
        judged: by each second stage, NaN where it did not look, float32 (members,).
        edge: None where all nodes are members.
    """

    question: str
    queries: Mapping[str, np.ndarray]
    nodes: np.ndarray
    cosines: np.ndarray
    profiles: Mapping[str, Profiles]
    characters: np.ndarray
    edge: Edge | None
    judged: dict[str, np.ndarray] = field(default_factory=dict)

    def at(self, places: np.ndarray) -> Pool:
        """Return it with some of its members."""
        return replace(
            self,
            nodes=self.nodes[places],
            cosines=self.cosines[:, places],
            profiles={kind: own.at(places) for kind, own in self.profiles.items()},
            characters=self.characters[places],
            judged={name: own[places] for name, own in self.judged.items()},
        )

    def with_more(
        self,
        nodes: np.ndarray,
        cosines: np.ndarray,
        profiles: Mapping[str, Profiles],
        characters: np.ndarray,
    ) -> Pool:
        """Return it with more members, which it had not."""
        if not len(nodes):
            return self
        unknown = np.full(len(nodes), np.nan, np.float32)
        both = replace(
            self,
            nodes=np.concatenate([self.nodes, nodes]),
            cosines=np.concatenate([self.cosines, cosines], axis=1),
            profiles={
                kind: Profiles.joined([own, profiles[kind]]) for kind, own in self.profiles.items()
            },
            characters=np.concatenate([self.characters, characters]),
            judged={name: np.concatenate([own, unknown]) for name, own in self.judged.items()},
        )
        return both.at(np.argsort(both.nodes))

    def judge(self, name: str, nodes: np.ndarray, scores: Sequence[float]) -> None:
        """Keep a second stage's scores of some members."""
        own = self.judged.setdefault(name, np.full(len(self.nodes), np.nan, np.float32))
        own[np.searchsorted(self.nodes, nodes)] = scores


@dataclass(frozen=True)
class Scaled:
    """A pool's scores by the statistics of now, scaled over all nodes as `min_max` does.

    Attributes:
        dense: by each retriever, float32 (retrievers, members).
        words: BM25 by kind of text, float32 (members,).
        shares: of the question's terms and of its pairs, `Profiles.shares`.
        raw: BM25's scores as they are, by kind.
        title_most: the highest score of titles and headings.
    """

    dense: np.ndarray
    words: Mapping[str, np.ndarray]
    shares: tuple[np.ndarray, np.ndarray]
    raw: Mapping[str, np.ndarray]
    title_most: float

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
        most = {kind: float(own.max(initial=0.0)) for kind, own in raw.items()}
        least = dict.fromkeys(raw, 0.0)
        if pool.edge is None:
            least = {kind: float(own.min()) for kind, own in raw.items()}
        else:
            titles = pool.edge.titles.bm25(asked[TITLE], idf[TITLE], now[TITLE].mean)
            most[TITLE] = float(titles[pool.edge.title_nodes > 0].max(initial=0.0))
        words = {kind: _between(own, least[kind], most[kind]) for kind, own in raw.items()}
        ends = pool.cosines.min(axis=1), pool.cosines.max(axis=1)
        dense = [_between(*each) for each in zip(pool.cosines, *ends)]
        read, rarest = shape.read, inverse_frequency(tally.nodes, np.array(1))
        shares = pool.profiles[read].shares(
            asked[read], idf[read], now[read].having > 0, float(rarest)
        )
        return cls(np.stack(dense), words, shares, raw, most[TITLE])


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
    for start in range(0, len(pools), BLOCK):
        block = pools[start : start + BLOCK]
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
