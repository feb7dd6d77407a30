"""Plots of the ladder's rows, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ragft_pipeline.evaluation.ladder import Rung
from ragft_pipeline.evaluation.names import BASE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GAIN, _LOSS, _OPEN = "#22313f", "#2e7d5b", "#b3483c", "#8795a1"
_MARKERS = "os^Dv*PX"


def differences_plot(rungs: Sequence[Rung], title: str) -> bytes:
    """Draw every system's nDCG@10 difference to base with its 95% interval."""
    shown = [rung for rung in rungs if rung.result.system != BASE][::-1]
    figure, axes = new_figure(8.2, 1.0 + 0.34 * len(shown))
    for row, rung in enumerate(shown):
        difference = rung.result.to_base
        colour = GAIN if difference.gain else _LOSS if difference.loss else _OPEN
        axes.plot([difference.low, difference.high], [row, row], color=colour, linewidth=3)
        axes.plot(difference.mean, row, "o", color=colour, markersize=7)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(shown)), [rung.label for rung in shown])
    titled(figure, title, "nDCG@10, difference to the base embedder, 95% interval")
    return png(figure)


def hit_rate_plot(rungs: Sequence[Rung], title: str) -> bytes:
    """Draw hit rate at 1, 5 and 10 of every system."""
    shown = rungs[::-1]
    figure, axes = new_figure(8.2, 1.0 + 0.34 * len(shown))
    for metric, colour in (("hit_at_10", "#cfd8dc"), ("hit_at_5", "#90a4ae"), ("hit_at_1", INK)):
        label = metric.replace("_at_", "@")
        rates = [rung.result.means[metric] for rung in shown]
        axes.barh(range(len(shown)), rates, color=colour, label=label)
    axes.set_yticks(range(len(shown)), [rung.label for rung in shown])
    axes.set_xlim(0, 1)
    figure.legend(loc="outside lower right", ncols=3, frameon=False)
    titled(figure, title)
    return png(figure)


def latency_plot(rungs: Sequence[Rung], title: str) -> bytes:
    """Draw quality against the median latency a query."""
    figure, axes = new_figure(8.2, 4.2)
    timed = [(taken, rung) for rung in rungs if (taken := rung.milliseconds) is not None]
    for number, (taken, rung) in enumerate(timed):
        colour, marker = f"C{number % 10}", _MARKERS[number % len(_MARKERS)]
        point = taken, rung.result.means["ndcg_at_10"]
        axes.plot(*point, marker, color=colour, markersize=8, label=rung.label)
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.1)
    axes.set_ylabel("nDCG@10")
    if timed:
        figure.legend(loc="outside center right", frameon=False, fontsize=8)
    titled(figure, title, "median milliseconds a query (one at a time, this machine)")
    return png(figure)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches with one frameless plot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def titled(figure: Figure, title: str, below: str = "") -> None:
    """Put the title, and what the axis says, at the figure's edges: long names leave them room."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    if below:
        figure.supxlabel(below, x=0.99, ha="right", fontsize=10)


def png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
