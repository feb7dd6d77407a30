"""What is served now: follows the pointer, and swaps whole searchers."""

from __future__ import annotations

import time
from threading import Lock

from ragft_pipeline.errors import one_line
from ragft_pipeline.serving.bundle import BundleStore
from ragft_pipeline.serving.history import Entry, History
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import ComputeSettings
from ragft_pipeline.store import ArtifactStore

_PATIENCE = 4.0  # seconds before a bundle or a history that could not be read is tried again


class Champion:
    """The searcher of the bundle in force, loaded anew when the pointer moves.

    Whoever asks gets one whole searcher and keeps it for the length of a question, so no answer is
    half old and half new. While a new bundle loads, the old one answers; one that cannot be
    loaded never replaces it, nor does a store that is away for a moment. What both have in common
    is not read again.

    Args:
        store: the store with the history and the bundles.
        compute: this machine's threads and device.

    Raises RagftError where nothing was promoted yet, or the bundle cannot be loaded.
    """

    def __init__(self, store: ArtifactStore, compute: ComputeSettings | None = None) -> None:
        self._history = History(store)
        self._bundles = BundleStore(store)
        self._compute = compute
        self._loading = Lock()
        self.entry: Entry = self._history.require_current()
        self._searcher = Searcher(self._bundles.load(self.entry.bundle), compute)
        self.problem = ""
        self._refused, self._again_at = 0, 0.0  # the entry that could not be followed, next try
        self._look_at = 0.0

    @property
    def searcher(self) -> Searcher:
        """The searcher in force; loads it first where the pointer has moved."""
        self.refresh()
        return self._searcher

    def searcher_of(self, digest: str) -> Searcher:
        """Return the searcher of a bundle, which may be in force no longer."""
        searcher = self._searcher
        if searcher.bundle.digest == digest:
            return searcher
        return Searcher(self._bundles.load(digest), self._compute, searcher)

    def refresh(self) -> None:
        """Follow the pointer; `problem` says in one line why it could not be followed."""
        if time.monotonic() < self._look_at:
            return
        try:
            now = self._history.current()
        except Exception as error:
            self._look_at = time.monotonic() + _PATIENCE
            self.problem = one_line(error)
            return
        self._look_at = time.monotonic() + self._history.poll_seconds
        if now is None or now.number == self.entry.number:
            self.problem = ""
            return
        if now.number == self._refused and time.monotonic() < self._again_at:
            return
        if not self._loading.acquire(blocking=False):  # another thread is at it
            return
        try:
            if now.bundle != self._searcher.bundle.digest:
                bundle = self._bundles.load(now.bundle)
                self._searcher = Searcher(bundle, self._compute, self._searcher)
            self.entry, self.problem = now, ""
        except Exception as error:  # the old one goes on answering, whatever is wrong
            self._refused, self._again_at = now.number, time.monotonic() + _PATIENCE
            self.problem = f"bundle {now.bundle[:12]} cannot be served: {one_line(error)}"
        finally:
            self._loading.release()
