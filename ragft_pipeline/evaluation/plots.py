"""Plots of an evaluation, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ragft_pipeline.evaluation.summary import BASE, SystemResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GAIN, _LOSS, _OPEN = "#22313f", "#2e7d5b", "#b3483c", "#8795a1"
_MARKERS = "os^Dv*PX"


def differences_plot(results: Sequence[SystemResult], title: str) -> bytes:
    """Draw every system's nDCG@10 difference to base with its 95% interval."""
    shown = [result for result in results if result.system != BASE][::-1]
    figure, axes = new_figure(8.2, 0.9 + 0.34 * len(shown))
    for row, result in enumerate(shown):
        difference = result.to_base
        colour = GAIN if difference.gain else _LOSS if difference.loss else _OPEN
        axes.plot([difference.low, difference.high], [row, row], color=colour, linewidth=3)
        axes.plot(difference.mean, row, "o", color=colour, markersize=7)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(shown)), [f"{r.system} (n={r.questions})" for r in shown])
    axes.set_xlabel("nDCG@10, difference to the base embedder, 95% interval")
    titled(figure, title)
    return png(figure)


def hit_rate_plot(results: Sequence[SystemResult], title: str) -> bytes:
    """Draw hit rate at 1, 5 and 10 of every system."""
    shown = list(results)[::-1]
    figure, axes = new_figure(8.2, 0.9 + 0.34 * len(shown))
    for metric, colour in (("hit_at_10", "#cfd8dc"), ("hit_at_5", "#90a4ae"), ("hit_at_1", INK)):
        label = metric.replace("_at_", "@")
        axes.barh(range(len(shown)), [r.means[metric] for r in shown], color=colour, label=label)
    axes.set_yticks(range(len(shown)), [r.system for r in shown])
    axes.set_xlim(0, 1)
    axes.legend(loc="lower right", frameon=False)
    titled(figure, title)
    return png(figure)


def latency_plot(
    results: Sequence[SystemResult], latency: Sequence[dict[str, float | str]], title: str
) -> bytes:
    """Draw quality against the median latency a query."""
    quality = {result.system: result.means["ndcg_at_10"] for result in results}
    figure, axes = new_figure(8.2, 4.2)
    timed = [row for row in latency if str(row["system"]) in quality]
    for number, row in enumerate(timed):
        system = str(row["system"])
        colour, marker = f"C{number % 10}", _MARKERS[number % len(_MARKERS)]
        point = float(row["p50_ms"]), quality[system]
        axes.plot(*point, marker, color=colour, markersize=8, label=system)
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.1)
    axes.set_xlabel("median milliseconds a query (one at a time, this machine)")
    axes.set_ylabel("nDCG@10")
    if timed:
        figure.legend(loc="outside center right", frameon=False, fontsize=8)
    titled(figure, title)
    return png(figure)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches with one frameless plot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def titled(figure: Figure, title: str) -> None:
    """Put the title at the figure's edge, so that long system names leave it its room."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)


def png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
