"""Pools filled by a search of all nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from ragft_pipeline.evaluation.leaders import MARGIN, Leaders
from ragft_pipeline.evaluation.pools import (
    PLAIN,
    READ,
    TITLE,
    Edge,
    Extremes,
    Pool,
    Shape,
    Tally,
)
from ragft_pipeline.retrieval.evidence import Evidence
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.search import rows_at_once
from ragft_pipeline.retrieval.wording import Held, Profiles, Wording

_EXTREMES, _EXTREME_SHARE = 64, 0.05  # texts at least, and all that are as near to the extreme
_BLOCK = 256


@dataclass(frozen=True)
class _Kind:
    """All texts of a kind: what is searched, and by node which of these texts it has."""

    index: LexicalIndex
    held: Held
    text: np.ndarray | None
    nodes: int
    length: int

    def profiles(self, asked: Wording, nodes: np.ndarray) -> Profiles:
        return self.held.profiles(asked, nodes if self.text is None else self.text[nodes])


class AllNodes:
    """All nodes, to be searched.

    Args:
        vectors: by retriever, float32 (nodes, width).
    """

    def __init__(self, evidence: Evidence, vectors: Mapping[str, np.ndarray]) -> None:
        self._evidence, self._vectors = evidence, vectors

    @cached_property
    def _kinds(self) -> dict[str, _Kind]:
        evidence = self._evidence
        found = {TITLE: _titles(evidence)}
        for kind, index in ((PLAIN, evidence.plain), (READ, evidence.lexical)):
            if kind == PLAIN or index is not evidence.plain:
                terms = index.terms
                held, length = Held(terms), int(terms.lengths.sum())
                found[kind] = _Kind(index, held, None, len(evidence.lengths), length)
        return found

    @cached_property
    def _title_nodes(self) -> np.ndarray:
        """How many nodes have each of the different titles."""
        own = self._kinds[TITLE]
        assert own.text is not None
        return np.bincount(own.text, minlength=len(own.held.terms.lengths))

    def tally(self, shape: Shape) -> Tally:
        """Return what is counted of all nodes, without any question's terms."""
        characters, nodes = np.unique(self._evidence.lengths, return_counts=True)
        spoken = {
            kind: Counter(self._kinds[PLAIN if kind == TITLE else kind].index.languages)
            for kind in shape.texts
        }
        return Tally(
            len(self._evidence.lengths),
            {kind: self._kinds[kind].length for kind in shape.texts},
            {kind: {} for kind in shape.texts},
            spoken,
            Counter(dict(zip(characters.tolist(), nodes.tolist()))),
        )

    def search(
        self,
        questions: Sequence[str],
        vectors: Mapping[str, np.ndarray],
        tally: Tally,
        shape: Shape,
    ) -> list[Pool]:
        """Return the pools of questions; the tally learns their terms.

        Args:
            vectors: the questions' by retriever, float32 (questions, width).
        """
        kinds = {kind: self._kinds[kind] for kind in shape.texts}
        for kind, own in kinds.items():
            for text in questions:
                wording = tally.wording(kind, text)
                having = own.index.having(wording).tolist()
                tally.having[kind] |= zip(wording.terms, having)
        found: list[Pool] = []
        size = rows_at_once(tally.nodes, _BLOCK)
        for start in range(0, len(questions), size):
            block = slice(start, start + size)
            asked = {name: own[block] for name, own in vectors.items()}
            words = {kind: own.index.scores(questions[block]) for kind, own in kinds.items()}
            dense = {name: own @ self._vectors[name].T for name, own in asked.items()}
            for row, text in enumerate(questions[block]):
                pool = self._pool(
                    text,
                    {name: own[row] for name, own in asked.items()},
                    {name: own[row] for name, own in dense.items()},
                    {kind: own[row] for kind, own in words.items()},
                    tally,
                    shape,
                )
                found.append(pool)
        return found

    def _pool(
        self,
        text: str,
        queries: Mapping[str, np.ndarray],
        dense: Mapping[str, np.ndarray],
        words: Mapping[str, np.ndarray],
        tally: Tally,
        shape: Shape,
    ) -> Pool:
        """Cut a question's pool by its scores of all nodes."""
        evidence = self._evidence
        asked = {kind: tally.wording(kind, text) for kind in shape.texts}
        if tally.nodes <= shape.whole:
            nodes, leaders = np.arange(tally.nodes), []
        else:
            leaders = [
                Leaders.of(dense[name], words[kind], shape) for name, kind in shape.kinds.items()
            ]
            nodes = np.unique(np.concatenate([own.members for own in leaders]))
            middle = np.unique(np.concatenate([own.middle for own in leaders]))
            nodes = np.union1d(nodes, evidence.around.beside(middle))
        profiles = {kind: self._kinds[kind].profiles(own, nodes) for kind, own in asked.items()}
        cosines = np.stack([cosine(self._vectors[n][nodes], queries[n]) for n in shape.kinds])
        characters = evidence.lengths[nodes].astype(np.int32)
        pool = Pool(text, queries, nodes, cosines, profiles, characters, None)
        if not leaders:
            return pool
        return replace(pool, edge=self._edge(pool, asked, leaders, words, tally, shape))

    def _edge(
        self,
        pool: Pool,
        asked: Mapping[str, Wording],
        leaders: Sequence[Leaders],
        words: Mapping[str, np.ndarray],
        tally: Tally,
        shape: Shape,
    ) -> Edge:
        inside = np.zeros(tally.nodes, bool)
        inside[pool.nodes] = True
        own = dict(zip(shape.kinds.values(), leaders))  # any retriever's of the kind
        last, others = {}, {}
        for kind, one in own.items():
            profile = self._kinds[kind].profiles(asked[kind], one.last[None])
            last[kind] = int(one.last), profile
            others[kind] = self._others(kind, asked[kind], words[kind], one, inside, profile)
        nothing = {kind: tally.nodes - int(np.count_nonzero(words[kind] > 0)) for kind in own}
        nothing[TITLE] = tally.nodes - int(self._title_nodes[words[TITLE] > 0].sum())
        lowest = {
            kind: self._extremes(kind, asked[kind], words[kind], -1)
            for kind, number in nothing.items()
            if not number
        }
        return Edge(
            {kind: tally.statistics(kind, each) for kind, each in asked.items()},
            np.array([[one.low, one.high] for one in leaders], float),
            np.array([one.ceiling for one in leaders], float) - MARGIN,
            {kind: (one.least, one.most) for kind, one in own.items()},
            np.stack([one.floors(inside) for one in leaders]),
            others,
            last,
            nothing,
            lowest,
            self._extremes(TITLE, asked[TITLE], words[TITLE], 1),
        )

    def _others(
        self,
        kind: str,
        asked: Wording,
        words: np.ndarray,
        leaders: Leaders,
        inside: np.ndarray,
        last: Profiles,
    ) -> float:
        """Return the highest BM25 score, scaled, of outsiders that are not like the last one."""
        edge = words[leaders.last]
        if edge == 0:
            return 0.0  # all that have any term are members
        outside = leaders.near[~inside[leaders.near]]
        scores = words[outside]
        own = self._kinds[kind].profiles(asked, outside[scores == edge])
        if (own.lengths != last.lengths).any() or (own.counts != last.counts).any():
            return float(leaders.scaled(edge)) + MARGIN
        highest = float(leaders.scaled(scores[scores < edge]).max(initial=0.0))
        return max(highest, float(leaders.beyond[0])) + MARGIN

    def _extremes(self, kind: str, asked: Wording, words: np.ndarray, sign: int) -> Extremes:
        """Return what the texts with the highest scores above 0 have (1), or the lowest (-1)."""
        own = self._kinds[kind]
        hit = np.flatnonzero(words > 0)
        signed = sign * words[hit]
        edge = np.partition(signed, -_EXTREMES)[-_EXTREMES] if len(hit) > _EXTREMES else -np.inf
        best = float(signed.max(initial=-np.inf))
        within = signed >= min(edge, best - _EXTREME_SHARE * abs(best)) if len(hit) else signed > 0
        rest = signed[~within]
        bound = float(sign * rest.max()) if len(rest) else (0.0 if sign > 0 else np.inf)
        texts = hit[within]
        found = own.held.profiles(asked, texts)
        rows = np.column_stack([found.lengths, found.counts])
        _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        having = self._title_nodes[texts] if kind == TITLE else None
        nodes = np.bincount(which.reshape(-1), having, len(first)).astype(np.int64)
        return Extremes(found.at(first), nodes, bound * (1 + sign * MARGIN))


def cosine(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return a question's cosines, float32 (nodes,); the same whatever nodes they are.

    Sums of float64 differ by their order only where a float32 does not show it.
    """
    return (vectors.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)


def _titles(evidence: Evidence) -> _Kind:
    """Return the different titles and headings, each in the language of the text below it."""
    whole = evidence.titles.terms
    pairs = zip(whole.languages, evidence.titles.texts)
    units = pa.array([f"{language}\0{title}" for language, title in pairs]).dictionary_encode()
    of_node = units.indices.to_numpy()
    number = len(units.dictionary)
    first = np.empty(number, np.int64)
    first[of_node[::-1]] = np.arange(len(of_node))[::-1]
    terms, nodes = whole.take(first), np.bincount(of_node, minlength=number)
    length = int(nodes @ terms.lengths)
    rows = np.repeat(np.arange(number), terms.lengths)
    width = max(1, len(terms.vocabulary))
    each = np.unique(rows * width + terms.sequence)
    having = np.bincount(each % width, nodes[each // width], minlength=len(terms.vocabulary))
    statistics = TermStatistics(
        dict(zip(terms.vocabulary, having.astype(int).tolist())),
        len(of_node),
        length / max(1, len(of_node)),
    )
    texts = [evidence.titles.texts[row] for row in first.tolist()]
    spoken = sorted(set(whole.languages))
    index = LexicalIndex(texts, statistics, asked_in=spoken, terms=terms)
    return _Kind(index, Held(terms), of_node, len(of_node), length)
