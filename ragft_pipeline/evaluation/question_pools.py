"""The pools of the questions that are asked: followed where an earlier version has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.evaluation.cards import Cards
from ragft_pipeline.evaluation.following import Following, Newcomers, moved
from ragft_pipeline.evaluation.kept_pools import PoolSet
from ragft_pipeline.evaluation.nodes import Nodes
from ragft_pipeline.evaluation.pool_search import AllNodes
from ragft_pipeline.evaluation.pools import TITLE, Pool, Shape, Tally
from ragft_pipeline.evaluation.retrievers import Retriever, Source, document_vectors
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

_WHOLE = 10  # where more than one node in so many left or came, all questions are searched for,
_FEW = 64  # if there are more than so many


@dataclass(frozen=True)
class KeptPools:
    """An earlier version's pools, and by which nodes this version differs from it.

    Attributes:
        folder: of its artifact.
        timed: the version whose latency its artifact has.
        gone, came: these nodes.
        vectors: of those that came, by source and kind of text, once they were asked for.
    """

    folder: Path
    timed: str
    gone: Cards
    came: Cards
    vectors: dict[tuple[Source, str], np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls, folder: Path, timed: str, before: pa.Table, after: pa.Table, settings: Settings
    ) -> KeptPools:
        """Compare all rows, then and now, of the nodes of the documents that changed."""
        passages = settings.passages
        was, now = (
            Cards.of(rows, passages.context == "on", passages.language) for rows in (before, after)
        )
        return cls(folder, timed, was.without(now), now.without(was))


@dataclass
class QuestionPools:
    """Finds pools over the nodes of one version.

    Attributes:
        title: what their files are called.
        searched: returns all nodes, to be searched; asked where a question is not followed.
        kept: an earlier version's, by the same models.
    """

    title: str
    shape: Shape
    nodes: Nodes
    retrievers: Sequence[Retriever]
    searched: Callable[[], AllNodes]
    settings: Settings
    work: Workspace
    kept: KeptPools | None = None
    found: dict[str, Pool] = field(default_factory=dict)

    def of(self, questions: QuestionSet) -> list[Pool]:
        """Return the pools of some questions."""
        asked = {key: text for key, text in questions.by_id().items() if key not in self.found}
        self._follow(asked)
        rest = {key: text for key, text in asked.items() if key not in self.found}
        self.work.count("questions_followed", len(asked) - len(rest))
        self.work.count("questions_searched", len(rest))
        if rest:
            vectors = {own.name: own.known(rest) for own in self.retrievers}
            texts = list(rest.values())
            pools = self.searched().search(texts, vectors, self.tally, self.shape)
            self.found |= zip(rest, pools)
        return [self.found[key] for key in questions.ids]

    @cached_property
    def tally(self) -> Tally:
        """What is counted of all nodes."""
        if self._earlier is None:
            return self.searched().tally(self.shape)
        assert self.kept is not None
        return moved(self._earlier.tally, self.kept.gone, self.kept.came)

    @cached_property
    def _earlier(self) -> PoolSet | None:
        """The earlier pools where they can be followed; else it is said why not."""
        if self.kept is None:
            return None
        gone, came = self.kept.gone, self.kept.came
        earlier = PoolSet.load(self.kept.folder, self.title, self.nodes.ids, gone.ids)
        if earlier is None:
            return None
        now = moved(earlier.tally, gone, came)
        reason, changed = "", len(gone.ids) + len(came.ids)
        if earlier.shape != self.shape or [*earlier.shape.kinds] != [*self.shape.kinds]:
            reason = "the systems are others"
        elif changed > max(_FEW, len(self.nodes) // _WHOLE):
            reason = f"{len(gone.ids)} nodes left and {len(came.ids)} came"
        elif {k: own.keys() for k, own in earlier.tally.languages.items()} != {
            k: own.keys() for k, own in now.languages.items()
        }:
            reason = "the languages are others"
        elif now.nodes != len(self.nodes):
            reason = f"it had {earlier.tally.nodes} nodes"
        if reason:
            self.work.progress(f"{self.work.asset}: all questions are searched for: {reason}")
        return None if reason else earlier

    def _follow(self, asked: Mapping[str, str]) -> None:
        """Follow what an earlier version has of some questions."""
        if self._earlier is None or self.kept is None:
            return
        pools = {
            key: self._earlier.pools[key]
            for key, text in asked.items()
            if key in self._earlier.pools and self._earlier.pools[key].question == text
        }
        if not pools:
            return
        came = self._newcomers(self.kept.came, self.kept.vectors)
        following = Following(self.tally, self.kept.gone, came, self.shape, self.nodes.around)
        standing, lacking = {}, {}
        for key, pool in pools.items():
            if (now := following.follow(pool)) is not None:
                standing[key], lacking[key] = now
        some = np.unique(np.concatenate([np.empty(0, np.int64), *lacking.values()]))
        if len(some):
            beside = self._newcomers(self.cards(some.tolist()), {})
            for key, places in lacking.items():
                if len(places):
                    wordings = {
                        kind: self.tally.wording(kind, asked[key]) for kind in self.shape.texts
                    }
                    at = np.searchsorted(beside.places, places)
                    standing[key] = beside.added(standing[key], wordings, at)
        self.found |= standing

    def cards(self, places: Sequence[int]) -> Cards:
        """Return the nodes at some places, ascending."""
        passages = self.settings.passages
        return Cards.of(self.nodes.some(places), passages.context == "on", passages.language)

    def _newcomers(self, cards: Cards, known: dict[tuple[Source, str], np.ndarray]) -> Newcomers:
        at = pc.index_in(pa.array(cards.ids, pa.string()), self.nodes.ids)
        if not len(cards.ids):
            nothing = np.zeros((0, 1), np.float32)
            return Newcomers(
                cards, np.empty(0, np.int64), {own.name: nothing for own in self.retrievers}
            )
        texts = {
            kind: dict(zip(cards.ids, own)) for kind, own in cards.texts.items() if kind != TITLE
        }
        vectors = document_vectors(
            self.retrievers, texts, lambda shape: np.empty(shape, np.float32), known
        )
        return Newcomers(cards, at.to_numpy().astype(np.int64), vectors)

    def save(self) -> None:
        """Keep the pools in the artifact."""
        PoolSet(self.shape, self.tally, self.found).save(
            self.work.folder, self.title, self.nodes.ids
        )
