"""Pools: of each question the nodes that some system may rank, and all that their ranks depend on.

A pool holds what is among the best by any score or mixture, with room to spare, and what stands
beside the best. Cosines, lengths and counts of terms do not depend on other nodes; what does, the
frequencies of terms, is a tally of whole numbers. So every system's ranking follows from both,
and when documents change both follow (`evaluation.following`), while no other node is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ragft_pipeline.retrieval.metrics import DEPTH
from ragft_pipeline.retrieval.search import MIDDLE
from ragft_pipeline.retrieval.wording import Profiles, Wording, inverse_frequency, wording

PLAIN, READ, TITLE = "plain", "read", "title"
"""Texts of a node: alone, as models and BM25 read it where that is another, and what is above it.
"""


@dataclass(frozen=True)
class Shape:
    """How pools are cut.

    Attributes:
        kinds: by retriever, the texts that BM25 beside it counts.
        grid: the dense weights that hybrids try; empty where there are none.
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
        return np.unique([0.0, 1.0, *([MIDDLE] if self.grid else []), *self.grid])

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
class Extremes:
    """What texts with the highest BM25 scores have, or with the lowest.

    Attributes:
        profiles: the different ones.
        nodes: how many nodes have each, now, int64 (profiles,).
        bound: no other text had a higher score, or a lower one, by the statistics of then.
    """

    profiles: Profiles
    nodes: np.ndarray
    bound: float

    def scores(self, asked: Wording, now: Statistics) -> np.ndarray:
        """Return the scores of those that any node has, float32."""
        return self.profiles.bm25(asked, now.idf, now.mean)[self.nodes > 0]

    def counted(self, own: Profiles, beyond: np.ndarray, sign: int) -> Extremes:
        """Return them after texts came (1) or left (-1), of which some are beyond the bound."""
        profiles, nodes = self.profiles, self.nodes.copy()
        for row in beyond.tolist():
            alike = profiles.lengths == own.lengths[row]
            alike &= (profiles.counts == own.counts[row]).all(axis=1)
            if alike.any():
                nodes[alike] += sign
            elif sign > 0:
                profiles = Profiles.joined([profiles, own.at(np.array([row]))])
                nodes = np.append(nodes, sign)
        return Extremes(profiles, nodes, self.bound)


@dataclass(frozen=True)
class Edge:
    """What is known of the nodes outside a pool, when it was cut and by the statistics of then.

    Scores are scaled between the lowest and the highest of all nodes. Everything has an entry a
    retriever, or is by kind of text.

    Attributes:
        statistics: those of then.
        cosines: the lowest and highest, float64 (retrievers, 2).
        ceilings: no outsider has a lower cosine, float64 (retrievers,).
        words: BM25's lowest and highest score.
        floors: no outsider has a higher mixture, float64 (retrievers, weights).
        others: no outsider has a higher BM25 score, scaled, but those that are like the last one.
        last: the place of the last by BM25, and what it has: outsiders like it come after it.
        without: how many nodes have none of the question's terms, now: BM25's lowest score is 0.
        lowest: what texts with the lowest scores have, where there was no such node.
        titles: what titles with the highest scores have.
    """

    statistics: Mapping[str, Statistics]
    cosines: np.ndarray
    ceilings: np.ndarray
    words: Mapping[str, tuple[float, float]]
    floors: np.ndarray
    others: Mapping[str, float]
    last: Mapping[str, tuple[int, Profiles]]
    without: Mapping[str, int]
    lowest: Mapping[str, Extremes]
    titles: Extremes

    def least(self, kind: str, asked: Wording, now: Statistics) -> float:
        """Return BM25's lowest score of all nodes."""
        if self.without[kind] > 0 or kind not in self.lowest:
            return 0.0
        return float(self.lowest[kind].scores(asked, now).min(initial=np.inf))


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
