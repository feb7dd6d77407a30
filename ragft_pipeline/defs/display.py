"""A run as a person watches it: a line for every finished asset and, on a terminal, a live one."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ragft_pipeline.defs.names import asset_of_step

_RUN = logging.getLogger("ragft.run")
_DONE_OF = re.compile(r"\b(\d+)/(\d+)\b")


class ToDisplay(logging.Handler):
    """Hands a run's records to the display of this process, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass the record on."""
        for handler in _RUN.handlers:
            handler.handle(record)


class Display(logging.Handler):
    """Shows the records of a run of `total` assets.

    Args:
        expected: seconds that each asset is likely to take, of those that can be told.
        report: a finished asset's page in words, `""` for most.
        console: where it is shown; the live line needs a terminal.
    """

    def __init__(
        self,
        total: int,
        expected: Mapping[str, float],
        report: Callable[[str], str],
        console: Console | None = None,
    ) -> None:
        super().__init__(logging.DEBUG)
        self._total = total
        self._expected = dict(expected)
        self._report = report
        self._console = console or _terminal()
        self._asset = self._words = ""
        self._started = 0
        self._since = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show what the run of this process logs."""
        _RUN.addHandler(self)
        try:
            if self._console.is_terminal:
                with Live(
                    console=self._console, transient=True, get_renderable=self.line,
                    redirect_stdout=False, redirect_stderr=False,
                ):  # fmt: skip
                    yield
            else:
                yield
        finally:
            _RUN.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record: an asset's words, or Dagster's event of its start or end."""
        meta: dict[str, Any] = getattr(record, "dagster_meta", None) or {}
        event = meta.get("dagster_event")
        kind = event.event_type_value if event is not None else ""
        if kind == "STEP_START":
            self._asset = asset_of_step(str(meta["step_key"]))
            self._words = ""
            self._started += 1
            self._since = time.monotonic()
        elif kind == "STEP_SUCCESS":
            self._finished()
        elif event is None:
            self._words = str(meta.get("orig_message", record.getMessage()))
            if not self._console.is_terminal:
                self._print(f"{self._place} {self._words}")

    def _finished(self) -> None:
        self._expected.pop(self._asset, None)
        if self._console.is_terminal:
            self._print(f"{self._place} {self._words}")
        if report := self._report(self._asset):
            self._print(f"\n{report}\n")
        self._asset = self._words = ""

    @property
    def _place(self) -> str:
        return f"[{self._started:>{len(str(self._total))}}/{self._total}]"

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def line(self) -> Text:
        """Return the live line: which asset of how many, what it does, how long it will take."""
        if not self._asset:
            return Text("")
        passed = time.monotonic() - self._since
        words = self._words or self._asset
        parts = [f"{self._place} {words}", _span(passed)]
        left = self._left(passed)
        if left is not None:
            parts.append(f"about {_span(left)} left")
        rest = sum(self._expected.values()) - min(passed, self._expected.get(self._asset, 0.0))
        if len(self._expected) > 1:
            parts.append(f"all: about {_span(rest)}")
        return Text("  ".join(parts), overflow="ellipsis", no_wrap=True)

    def _left(self, passed: float) -> float | None:
        """Return the seconds that the asset still takes: by last time's, else by its progress."""
        if self._asset in self._expected:
            return max(0.0, self._expected[self._asset] - passed)
        found = _DONE_OF.findall(self._words)
        if not found:
            return None
        done, of = (int(number) for number in found[-1])
        return passed * (of - done) / done if 0 < done < of else None


def _terminal() -> Console:
    """Return the terminal itself, where there is one: Dagster leads a step's stdout away."""
    if not sys.stdout.isatty():
        return Console()
    return Console(file=os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8"))


def _span(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"
