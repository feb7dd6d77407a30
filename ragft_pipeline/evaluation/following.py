"""How pools follow when nodes leave and come, so that no other node is looked at.

What left is taken out, and what came is put in where it passes a floor. Frequencies of terms moved
meanwhile: no score of an outsider grew by more than the inverse frequency of some term that an
outsider has, and than the mean length did. So a floor says how high outsiders can be now; if that
is not below the last that a system ranks, or if an extreme between which scores are scaled may have
left, the question is searched for anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ragft_pipeline.evaluation.cards import Cards
from ragft_pipeline.evaluation.leaders import MARGIN
from ragft_pipeline.evaluation.looks import Scaled
from ragft_pipeline.evaluation.pool_search import cosine
from ragft_pipeline.evaluation.pools import (
    TITLE,
    Edge,
    Extremes,
    Pool,
    Shape,
    Statistics,
    Tally,
)
from ragft_pipeline.retrieval.evidence import Neighbours
from ragft_pipeline.retrieval.search import MIDDLE, mix, top_k
from ragft_pipeline.retrieval.wording import Profiles, Wording


def moved(tally: Tally, gone: Cards, came: Cards) -> Tally:
    """Return a tally after some nodes left and others came."""
    found = Tally(
        tally.nodes - len(gone.ids) + len(came.ids),
        dict(tally.lengths),
        {kind: dict(own) for kind, own in tally.having.items()},
        {kind: Counter(own) for kind, own in tally.languages.items()},
        Counter(tally.characters),
    )
    for sign, cards in ((-1, gone), (1, came)):
        for length in cards.characters.tolist():
            found.characters[length] += sign
        for kind, having in found.having.items():
            terms = cards.held[kind].terms
            found.lengths[kind] += sign * int(terms.lengths.sum())
            rows = np.repeat(np.arange(len(terms.lengths)), terms.lengths)
            width = max(1, len(terms.vocabulary))
            each = np.bincount(np.unique(rows * width + terms.sequence) % width, minlength=width)
            for term, number in zip(terms.vocabulary, each.tolist()):
                if term in having:
                    having[term] += sign * number
            for language in cards.languages[kind]:
                found.languages[kind][language] += sign
    found.characters = +found.characters
    found.languages = {kind: +own for kind, own in found.languages.items()}
    return found


@dataclass(frozen=True)
class Newcomers:
    """Nodes that may join pools: what they are, their places, and their vectors by retriever."""

    cards: Cards
    places: np.ndarray
    vectors: Mapping[str, np.ndarray]

    def added(self, pool: Pool, asked: Mapping[str, Wording], some: np.ndarray) -> Pool:
        """Return a pool with some of them as members."""
        if not len(some):
            return pool
        profiles = {kind: self.cards.held[kind].profiles(own, some) for kind, own in asked.items()}
        cosines = np.stack(
            [cosine(self.vectors[name][some], own) for name, own in pool.queries.items()]
        )
        return pool.with_more(self.places[some], cosines, profiles, self.cards.characters[some])


@dataclass(frozen=True)
class Following:
    """A change of nodes, for pools to follow.

    Attributes:
        before, now: what is counted of all nodes.
        gone: the nodes that left.
        came: those that came.
        shape: of the pools.
        around: of all nodes that there are now.
    """

    now: Tally
    gone: Cards
    came: Newcomers
    shape: Shape
    around: Neighbours

    def follow(self, pool: Pool) -> tuple[Pool, np.ndarray] | None:
        """Return a pool as it is now, and the places of nodes beside its best that are no members.

        None where the question is to be searched for anew.

        Args:
            pool: without the members that left.
        """
        shape = self.shape
        asked = {kind: self.now.wording(kind, pool.question) for kind in shape.texts}
        if pool.edge is None:
            if self.now.nodes > 2 * shape.whole:
                return None
            every = np.arange(len(self.came.places))
            return self.came.added(pool, asked, every), np.empty(0, np.int64)
        profiles = self.came.cards.profiles(asked)
        edge = self._moved(pool.edge, asked, profiles)
        if any(number <= 0 and kind not in edge.lowest for kind, number in edge.without.items()):
            return None
        joining = self._passing(edge, asked, profiles, pool.queries)
        pool = self.came.added(replace(pool, edge=edge), asked, joining)
        if len(pool.nodes) < min(shape.depth, self.now.nodes):
            return None
        scaled = Scaled.of(pool, self.now, shape)
        if not self._stands(pool, scaled, edge, asked):
            return None
        return pool, self._lacking(pool, scaled)

    def _moved(
        self, edge: Edge, asked: Mapping[str, Wording], came: Mapping[str, Profiles]
    ) -> Edge:
        """Return an edge with what it counts as it is now."""
        without, lowest, titles = dict(edge.without), dict(edge.lowest), edge.titles
        for sign, profiles in ((-1, self.gone.profiles(asked)), (1, came)):
            for kind, own in profiles.items():
                without[kind] += sign * int(np.count_nonzero(~own.counts.any(axis=1)))
                then = edge.statistics[kind]
                scores = own.bm25(asked[kind], then.idf, then.mean)
                if kind in lowest:
                    low = (scores > 0) & (scores < lowest[kind].bound * (1 + 2 * MARGIN))
                    lowest[kind] = lowest[kind].counted(own, np.flatnonzero(low), sign)
                if kind == TITLE:
                    high = scores > titles.bound * (1 - 2 * MARGIN)
                    titles = titles.counted(own, np.flatnonzero(high), sign)
        return replace(edge, without=without, lowest=lowest, titles=titles)

    def _passing(
        self,
        edge: Edge,
        asked: Mapping[str, Wording],
        came: Mapping[str, Profiles],
        queries: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        """Return which of those that came pass a floor, by the statistics of when it was made."""
        shape, weights = self.shape, self.shape.weights
        passing = np.zeros(len(self.came.places), bool)
        if not len(passing):
            return np.flatnonzero(passing)
        for at, (name, kind) in enumerate(shape.kinds.items()):
            then = edge.statistics[kind]
            words = came[kind].bm25(asked[kind], then.idf, then.mean)
            dense = cosine(self.came.vectors[name], queries[name]).astype(float)
            low, high = edge.cosines[at]
            least, most = edge.words[kind]
            scaled = (
                (dense - low) / max(high - low, 1e-9),
                (words - least) / max(most - least, 1e-9),
            )
            mixed = weights[:, None] * scaled[0] + (1 - weights)[:, None] * scaled[1]
            passing |= (mixed[1:] > edge.floors[at][1:, None] - 3 * MARGIN).any(axis=0)
            passing |= (words > 0) & (scaled[1] > edge.others[kind] - 3 * MARGIN)
            passing |= (words == 0) & (self.came.places <= edge.last[kind][0])
            passing |= dense <= edge.ceilings[at] + 2 * MARGIN
        return np.flatnonzero(passing)

    def _stands(self, pool: Pool, scaled: Scaled, edge: Edge, asked: Mapping[str, Wording]) -> bool:
        """Say whether no outsider can be among what any system ranks, or be an extreme."""
        now = {kind: self.now.statistics(kind, own) for kind, own in asked.items()}
        growth = {
            kind: _growth(edge.statistics[kind], now[kind], _outside(now[kind], own))
            for kind, own in pool.profiles.items()
            if kind != TITLE
        }
        grown = _growth(edge.statistics[TITLE], now[TITLE], _beyond(edge.titles, now[TITLE]))
        if edge.titles.bound * grown * (1 + MARGIN) > scaled.ends[TITLE][1]:
            return False
        for kind, own in edge.lowest.items():
            shrunk = _shrinkage(edge.statistics[kind], now[kind], _beyond(own, now[kind]))
            if edge.without[kind] <= 0 and own.bound * shrunk < scaled.ends[kind][0]:
                return False
        kinds = self.shape.kinds
        return all(
            self._words_stand(pool, scaled, edge, kind, asked[kind], now[kind], growth[kind])
            for kind in set(kinds.values())
        ) and all(
            self._mixtures_stand(pool, scaled, edge, at, kind, growth[kind])
            for at, kind in enumerate(kinds.values())
        )

    def _words_stand(
        self,
        pool: Pool,
        scaled: Scaled,
        edge: Edge,
        kind: str,
        asked: Wording,
        now: Statistics,
        growth: float,
    ) -> bool:
        """Say whether no outsider can be among the best by BM25."""
        words, depth = scaled.raw[kind], self.shape.depth
        hundredth = top_k(words[None], depth)[0, -1]
        least, place = words[hundredth], pool.nodes[hundredth]
        last, profile = edge.last[kind]
        alike = profile.bm25(asked, now.idf, now.mean)[0]
        low, high = edge.words[kind]
        others = (low + edge.others[kind] * (high - low)) * growth
        if least < alike or (least == alike and place > last):
            return False
        return bool(least > others or (least == others == 0))

    def _mixtures_stand(
        self, pool: Pool, scaled: Scaled, edge: Edge, at: int, kind: str, growth: float
    ) -> bool:
        """Say whether no outsider can be among the best by a retriever or its mixtures."""
        cosines = pool.cosines[at]
        low, high = float(cosines.min()), float(cosines.max())
        if low > edge.ceilings[at]:
            return False
        weights, (then_low, then_high) = self.shape.weights, edge.cosines[at]
        dense_growth = (then_high - then_low) / max(high - low, 1e-9)
        (then_least, then_most), (least, most) = edge.words[kind], scaled.ends[kind]
        words = max(most - least, 1e-9) if most > 0 else 1.0
        a, b = weights * dense_growth, (1 - weights) * (then_most - then_least) * growth / words
        whole = np.maximum(a + b, 1e-12)
        # a floor is the highest of linear functions of the weight, so between two of them it is
        # no higher than the line from one to the other
        bounds = whole * np.interp(a / whole, weights, edge.floors[at])
        bounds += weights * (then_low - low) / max(high - low, 1e-9) + 3 * MARGIN
        bounds += (1 - weights) * (then_least * growth - least) / words
        mixed = np.stack(
            [mix(scaled.dense[at], scaled.words[kind], weight) for weight in weights[1:]]
        )
        worst = np.partition(mixed, -self.shape.depth, axis=1)[:, -self.shape.depth]
        return bool((worst > bounds[1:]).all())

    def _lacking(self, pool: Pool, scaled: Scaled) -> np.ndarray:
        if not self.shape.grid:
            return np.empty(0, np.int64)
        best = [
            top_k(mix(scaled.dense[at], scaled.words[kind], MIDDLE)[None], self.shape.depth)[0]
            for at, kind in enumerate(self.shape.kinds.values())
        ]
        beside = self.around.beside(pool.nodes[np.unique(best)])
        return np.setdiff1d(beside, pool.nodes)


def _outside(now: Statistics, members: Profiles) -> np.ndarray:
    """Say which terms any outsider has, bool (terms,)."""
    return np.asarray(now.having > np.count_nonzero(members.counts, axis=0))


def _beyond(extremes: Extremes, now: Statistics) -> np.ndarray:
    """Say which terms any text has that is none of the extremes, bool (terms,)."""
    nodes = np.maximum(extremes.nodes, 0)
    inside = ((extremes.profiles.counts > 0) * nodes[:, None]).sum(axis=0)
    return np.asarray(now.having > inside)


def _growth(then: Statistics, now: Statistics, outside: np.ndarray) -> float:
    """Return by how much a text's BM25 score may have grown at most, if it has some terms alone."""
    if not outside.any():
        return 0.0
    idf = float((now.idf[outside] / then.idf[outside]).max())
    return idf * max(1.0, now.mean / max(then.mean, 1e-9)) * (1 + 1e-9)


def _shrinkage(then: Statistics, now: Statistics, outside: np.ndarray) -> float:
    """Return to what part a text's BM25 score may have shrunk, if it has some terms alone."""
    if not outside.any():
        return 1.0
    idf = float((now.idf[outside] / then.idf[outside]).min())
    return idf * min(1.0, now.mean / max(then.mean, 1e-9)) * (1 - 1e-9)
