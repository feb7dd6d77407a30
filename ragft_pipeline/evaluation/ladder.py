"""The ladder: the few systems that a person reads, from the base embedder to what is recommended.

Which systems there are does not matter here. Three stand at its foot (the base embedder, BM25 and
their untuned hybrid); then come those that lead to what the questions chose, a part more each, and
it without one of its parts. Only systems measured on the same questions are on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ragft_pipeline.evaluation.names import BASE, CANDIDATE, path_below, spoken
from ragft_pipeline.evaluation.significance import Difference
from ragft_pipeline.evaluation.summary import UNTUNED, EvaluationRows, SystemResult, Verdict

_FOOT = (BASE, "bm25", UNTUNED)
_MOST = 8


@dataclass(frozen=True)
class Rung:
    """A row of the ladder.

    Attributes:
        number: its place, from 1.
        result: its means and its difference to the base embedder.
        comparable: whether it was measured on all questions; only what is recommended may be here
            without, and then its means say nothing beside the others'.
        over: the row that `adds` compares it with, on the same questions; 0 for the first.
        milliseconds: median a query; None where it was not timed.
        verdict: what was decided on it, or what the difference shows where nothing was.
    """

    number: int
    result: SystemResult
    comparable: bool
    over: int
    adds: Difference | None
    milliseconds: float | None
    verdict: str
    recommended: bool

    @property
    def name(self) -> str:
        """What a person calls it."""
        return spoken(self.result.system)

    @property
    def tone(self) -> str:
        """How its verdict reads: `gain`, `loss` or `open`."""
        if self.verdict in ("recommended", "better"):
            return "gain"
        return "loss" if self.verdict == "worse" else "open"

    @property
    def label(self) -> str:
        """What plots call it."""
        return self.name if self.comparable else f"{self.name} (n={self.result.questions})"

    @property
    def cells(self) -> list[str]:
        """What it shows, below `HEADER`."""
        quality = f"{self.result.means['ndcg_at_10']:.3f}"
        return [
            str(self.number),
            self.name,
            quality if self.comparable else f"(n={self.result.questions})",
            "" if self.adds is None else str(self.adds),
            str(self.over or ""),
            "" if self.milliseconds is None else f"{max(1, self.milliseconds):.0f}",
            self.verdict,
        ]


HEADER = ("", "system", "nDCG@10", "adds, 95% interval", "over", "ms", "verdict")


@dataclass(frozen=True)
class Ladder:
    """The rows, and the systems that are not on it: as well measured, and on fewer questions."""

    rungs: list[Rung]
    others: list[SystemResult]
    fewer: list[SystemResult]

    def markdown(self) -> str:
        """Return the table in Markdown; for eight rows below the 1000 characters that Dagster shows
        without a click.
        """
        rows = [list(HEADER), ["--:", ":--", "--:", ":--", "--:", "--:", ":--"]]
        for rung in self.rungs:
            mark = "**" if rung.recommended else ""
            number, name, *middle, verdict = rung.cells
            rows.append([number, f"{mark}{name}{mark}", *middle, f"{mark}{verdict}{mark}"])
        return "\n".join(f"|{'|'.join(row)}|" for row in rows)

    def lines(self) -> Iterator[str]:
        """Yield the table as a terminal shows it, and a word on what is not in it."""
        rows = [list(HEADER), *(rung.cells for rung in self.rungs)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        right = {0, 2, 4, 5}
        for row in rows:
            cells = [
                cell.rjust(width) if place in right else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths))
            ]
            yield "  ".join(cells).rstrip()
        yield self.names()
        more = [f"{len(self.others)} other systems"] if self.others else []
        more += [f"{len(self.fewer)} measured on fewer questions"] if self.fewer else []
        if more:
            yield f"{' and '.join(more)}: folded in the page"

    def names(self) -> str:
        """Return the footnote: the rows' names in code."""
        return "In code: " + ", ".join(f"{r.number} {r.result.system}" for r in self.rungs)


def build_ladder(
    rows: EvaluationRows,
    results: Sequence[SystemResult],
    verdict: Verdict,
    milliseconds: Mapping[str, float],
) -> Ladder:
    """Choose the rows of the ladder on the verdict's questions.

    Args:
        results: of every system on the verdict's primary set.
        milliseconds: median a query, by system.
    """
    found = {each.system: each for each in results if each.system != CANDIDATE}
    asked = rows.count(verdict.primary_set)
    whole = {name for name, result in found.items() if result.questions == asked}
    chosen = verdict.candidate
    wanted = [*_FOOT, chosen, *path_below(chosen), *(part.without for part in verdict.ablations)]
    fit = whole | ({verdict.recommended} & found.keys())
    shown = [name for name in dict.fromkeys(wanted) if name in fit][:_MOST]
    shown.sort(key=lambda name: _place(name, found))
    places = {name: place for place, name in enumerate(shown, start=1)}
    rungs = []
    for name, number in places.items():
        below = next((other for other in path_below(name) if other in places), name)
        adds = rows.difference(verdict.primary_set, name, below) if below != name else None
        rungs.append(
            Rung(
                number,
                found[name],
                name in whole,
                places[below] if adds else 0,
                adds,
                _milliseconds(name, milliseconds),
                _word(name, adds, verdict),
                name == verdict.recommended,
            )
        )
    rest = [result for name, result in found.items() if name not in places]
    return Ladder(
        rungs,
        [result for result in rest if result.system in whole],
        [result for result in rest if result.system not in whole],
    )


def _place(name: str, found: Mapping[str, SystemResult]) -> tuple[int, int, float]:
    """Return what sorts the rows: the foot, then by the number of parts, then by quality."""
    if name in _FOOT:
        return (0, _FOOT.index(name), 0.0)
    return (1, len(list(path_below(name))), found[name].means["ndcg_at_10"])


def _word(name: str, adds: Difference | None, verdict: Verdict) -> str:
    if name == verdict.recommended:
        return "recommended"
    if name == verdict.candidate:
        return "not proven"
    if adds is None or name == "bm25":
        return ""
    return "better" if adds.gain else "worse" if adds.loss else "no difference shown"


def _milliseconds(name: str, timed: Mapping[str, float]) -> float | None:
    """Return a system's milliseconds; a second stage, timed over one retriever, costs the same
    over another.
    """
    first, plus, stage = name.rpartition(" + ")
    if name in timed or not plus:
        return timed.get(name)
    beneath = _milliseconds(first, timed)
    for other, taken in timed.items():
        below, _, theirs = other.rpartition(" + ")
        if theirs == stage and below in timed and beneath is not None:
            return beneath + taken - timed[below]
    return None
