"""Follows the pointer in the background, for a process that many ask at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from threading import Event, Thread

from ragft_pipeline.errors import one_line
from ragft_pipeline.serving.history import Entry
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.searcher import Searcher

_EVERY, _AFTER_A_PROBLEM = 0.2, 5.0  # seconds between two looks at the pointer
_LOG = logging.getLogger("ragft")


@dataclass(frozen=True)
class Now:
    """What answers from now on; the two belong together, so they are replaced together."""

    searcher: Searcher
    entry: Entry


class Follower:
    """Follows the pointer in a thread of its own, so that no question waits for a bundle to load.

    Args:
        champion: used by nobody else from here on.
    """

    def __init__(self, champion: Champion) -> None:
        self._champion = champion
        self._stop = Event()
        self._thread = Thread(target=self._run, name="follow-champion", daemon=True)
        self.problem = ""
        self.now = self._look()

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to follow; a bundle that is loading is not waited for."""
        self._stop.set()

    def _look(self) -> Now:
        return Now(self._champion.searcher, self._champion.entry)

    def _run(self) -> None:
        while not self._stop.wait(_AFTER_A_PROBLEM if self.problem else _EVERY):
            try:
                self.now = self._look()
                problem = self._champion.problem
            except Exception as error:  # as a store that is away for a moment: look again
                problem = one_line(error)
            if problem and problem != self.problem:
                _LOG.warning("%s", problem)
            self.problem = problem
