"""The router's page: whether it is better than the untuned selector, and how sure it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ragft_pipeline.evaluation.plots import GAIN, INK, new_figure, png, titled
from ragft_pipeline.evaluation.report import REPORT_FILE, TEXT_FILE, Section, render_page
from ragft_pipeline.routing.catalog import KINDS
from ragft_pipeline.routing.summary import (
    KindRouting,
    RoutingRows,
    routing_sentences,
    routing_table,
)
from ragft_pipeline.routing.verdict import decide
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_routing_report(
    rows: pa.Table, settings: Settings, version: str, work: Workspace
) -> dict[str, str]:
    """Write the page of a ROUTER_EVAL table and its first lines as text; return the verdict.

    Nothing where the table has no rows.
    """
    section = routing_section(rows, settings)
    if section is None:
        return {}
    verdict = decide(RoutingRows(rows, settings.evaluation), settings.gate)
    title = f"Whether to route by the router: {version}"
    page = render_page("answering.html.j2", title, verdict.sentence, [section])
    (work.folder / REPORT_FILE).write_text(page, encoding="utf-8")
    (work.folder / TEXT_FILE).write_text(f"Routing: {verdict.sentence}", encoding="utf-8")
    return {"verdict": verdict.sentence, "power": verdict.power}


def routing_section(rows: pa.Table, settings: Settings) -> Section | None:
    """Return the section of a ROUTER_EVAL table; None where it has no rows."""
    read = RoutingRows(rows, settings.evaluation)
    if not read.sets:
        return None
    sets, kinds = [read.of_set(name) for name in read.sets], read.kinds()
    plots = {
        "routing_kinds": confusion_plot(kinds),
        "routing_confidence": confidence_plot(read, read.sets[0]),
    }
    return Section(
        "Routing",
        [*decide(read, settings.gate).lines, *routing_sentences(sets, kinds)],
        routing_table(sets), plots,
        "Every question is asked of the whole catalog, and what the router decides by is chosen on "
        "other folds' questions; searching means the untuned hybrid.",
    )  # fmt: skip


def confusion_plot(kinds: KindRouting) -> bytes:
    """Draw the index kinds that gained most against those that were guessed."""
    figure, axes = new_figure(4.6, 3.8)
    shares = kinds.confusion / np.maximum(1, kinds.confusion.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    for row in range(len(KINDS)):
        for column in range(len(KINDS)):
            colour = "white" if shares[row, column] > 0.6 else INK
            number = str(kinds.confusion[row, column])
            axes.text(column, row, number, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(KINDS)), KINDS)
    axes.set_yticks(range(len(KINDS)), KINDS)
    axes.set_xlabel("guessed")
    axes.set_ylabel("gained most")
    titled(figure, f"Index kinds, macro-F1 {kinds.macro_f1:.2f}")
    return png(figure)


def confidence_plot(read: RoutingRows, question_set: str) -> bytes:
    """Draw calibration, regret by confidence, and recall@1 of the surest questions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    bins = np.array(read.by_confidence(question_set)).reshape(-1, 3)
    left.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    left.plot(bins[:, 0], bins[:, 1], "o-", color=GAIN)
    _labelled(left, "confidence", "first tool is right")
    middle.axhline(0, color=INK, linewidth=0.8)
    middle.plot(bins[:, 0], bins[:, 2], "o-", color=GAIN)
    _labelled(middle, "confidence", "nDCG@10 lost with it alone")
    curve = np.array(read.abstention(question_set)).reshape(-1, 2)
    right.plot(curve[:, 0], curve[:, 1], color=GAIN)
    _labelled(right, "questions, surest first", "recall@1")
    titled(figure, f"Confidence on {question_set}")
    return png(figure)


def _labelled(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
