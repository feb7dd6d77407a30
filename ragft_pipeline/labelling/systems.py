"""The systems under trial, and the passages that any of them finds for a question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.serving.bundle import BundleStore
from ragft_pipeline.serving.history import History
from ragft_pipeline.serving.searcher import Hit, Searcher
from ragft_pipeline.settings import ComputeSettings
from ragft_pipeline.store import ArtifactStore

BASE, BM25, HYBRID, SERVED, CANDIDATE = "base", "bm25", "hybrid", "served", "candidate"
_DEPTH = 10


@dataclass(frozen=True)
class Answers:
    """A question's first ten passages by each system, and the two systems that are compared."""

    hits: Mapping[str, list[Hit]]
    compared: tuple[str, str]

    def ranking(self, system: str) -> list[str]:
        """Return a system's nodes, best first."""
        return [hit.node_id for hit in self.hits[system]]

    def pool(self, name: str, depth: int) -> list[Hit]:
        """Return the first `depth` passages of every system, mixed, so that nobody sees whose.

        Args:
            name: of the question; it alone decides the order.
        """
        pooled = {hit.node_id: hit for hits in self.hits.values() for hit in hits[:depth]}
        return sorted(pooled.values(), key=lambda hit: digest_of("pool", name, hit.node_id))


class Systems:
    """What is served, what it may be replaced by, and the untuned parts, over the same documents.

    Raises RagftError where nothing was promoted yet.
    """

    def __init__(self, store: ArtifactStore, compute: ComputeSettings | None = None) -> None:
        history, bundles = History(store), BundleStore(store)
        now = history.require_current()
        self.served = Searcher(bundles.load(now.bundle), compute)
        self.candidate: Searcher | None = None
        tried = [entry.candidate for entry in reversed(history.entries()) if entry.candidate]
        for digest in tried[:1]:
            if digest != now.bundle and bundles.peek(digest) is not None:
                try:
                    self.candidate = Searcher(bundles.load(digest), compute)
                except RagftError:  # of before another base model or version: not under trial
                    self.candidate = None

    @property
    def compared(self) -> tuple[str, str]:
        """The challenger and what it is compared with."""
        if self.candidate is not None:
            return CANDIDATE, SERVED
        untuned = self.served.configuration.name == "hybrid(base)"
        return (HYBRID, BASE) if untuned else (SERVED, HYBRID)

    def answers(self, question: str) -> Answers:
        """Return what each system answers."""
        hits = self.served.search_alone(question, _DEPTH)
        hits[HYBRID] = self.served.search_base(question, _DEPTH)
        hits[SERVED] = self.served.search(question, _DEPTH)
        if self.candidate is not None:
            hits[CANDIDATE] = self.candidate.search(question, _DEPTH)
        return Answers(hits, self.compared)

    def searcher_with(self, node_id: str) -> Searcher:
        """Return a searcher that has a node; RagftError where none has."""
        for searcher in (self.served, self.candidate):
            if searcher is not None and searcher.has(node_id):
                return searcher
        raise RagftError("node_id: no system under trial has such a passage")
