"""The report: one self-contained HTML page, and the same facts as JSON and Markdown."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from ragft_pipeline.evaluation.choosing import Choices
from ragft_pipeline.evaluation.ladder import HEADER, Ladder, build_ladder
from ragft_pipeline.evaluation.names import spoken
from ragft_pipeline.evaluation.plots import differences_plot, hit_rate_plot, latency_plot
from ragft_pipeline.evaluation.summary import (
    BASE,
    UNTUNED,
    EvaluationRows,
    SystemResult,
    Verdict,
    decide,
)
from ragft_pipeline.retrieval.metrics import METRICS, PRIMARY
from ragft_pipeline.retrieval.question_sets import SERVED, SYNTHETIC, TOMORROW
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

REPORT_FILE = "report.html"
SUMMARY_FILE = "summary.json"
TEXT_FILE = "report.txt"
_EXAMPLES = 5
_SET_TITLES = {
    SERVED: "As served: people's questions, asked of models trained on all documents",
    TOMORROW: "Tomorrow's documents: people's questions about documents no model was trained on",
    SYNTHETIC: "Synthetic questions about test documents",
}


@dataclass(frozen=True)
class Section:
    """A further section of the page.

    Attributes:
        sentences: what to know first.
        table: rows of cells, the first row the header.
        plots: PNG bytes by name.
        note: how to read it.
        examples: what was asked, and named answers to it.
    """

    title: str
    sentences: Sequence[str]
    table: Sequence[Sequence[str]]
    plots: Mapping[str, bytes]
    note: str
    examples: Sequence[tuple[str, Sequence[tuple[str, str]]]] = ()


@dataclass(frozen=True)
class ReportInput:
    """What the page is made of."""

    version: str
    rows: pa.Table
    latency: pa.Table
    nodes: pa.Table
    choices: Choices
    corpus: dict[str, Any]
    skipped: list[dict[str, str]]
    warnings: list[dict[str, str]]
    assets: Mapping[str, Mapping[str, Any]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """What Dagster shows of it."""

    verdict: Verdict
    ladder: Ladder

    def facts(self) -> dict[str, Any]:
        """Return the decision, the ladder and three numbers to follow over the versions."""
        followed = {
            "recommended": self.verdict.recommended, spoken(BASE): BASE, spoken(UNTUNED): UNTUNED
        }  # fmt: skip
        means = {
            rung.result.system: rung.result.means[PRIMARY]
            for rung in self.ladder.rungs
            if rung.comparable
        }
        quality = {
            f"nDCG@10 {name}": means[system] for name, system in followed.items() if system in means
        }
        return {
            "verdict": self.verdict.sentence,
            "power": self.verdict.power,
            **({"pooled": self.verdict.pooled} if self.verdict.pooled else {}),
            "ladder": self.ladder.markdown(),
            "names": self.ladder.names(),
            "recommended": self.verdict.recommended,
            **quality,
        }


def write_report(given: ReportInput, settings: Settings, work: Workspace) -> Report:
    """Write the page, its plots, its first screen as text, and all of it as JSON."""
    rows = EvaluationRows(given.rows, settings.evaluation)
    tables = _by_set(rows.results())
    verdict = decide(rows, given.choices, settings.gate)
    title = _SET_TITLES[verdict.primary_set]
    latency = given.latency.to_pylist()
    milliseconds = {row["system"]: row["p50_ms"] for row in latency}
    ladder = build_ladder(rows, tables.get(verdict.primary_set, []), verdict, milliseconds)
    whole = [rung for rung in ladder.rungs if rung.comparable]
    plots = {
        "differences": differences_plot(ladder.rungs, title),
        "hit_rate": hit_rate_plot(whole, title),
        "latency": latency_plot(whole, title),
    }
    page = render_page(
        "report.html.j2", f"Which retriever to serve: {given.version}", verdict.sentence,
        (), given=given, verdict=verdict, ladder=ladder, tables=tables,
        plots={name: _encoded(data) for name, data in plots.items()},
        examples=_examples(given, verdict, rows), latency=latency,
        asked=rows.count(verdict.primary_set), documents=rows.documents(verdict.primary_set),
        titles=_SET_TITLES,
        header=HEADER, metrics=METRICS, base=BASE, spoken=spoken,
    )  # fmt: skip
    (work.folder / REPORT_FILE).write_text(page, encoding="utf-8")
    told = [*given.notes, ""] if given.notes else []
    beside = [text for text in (verdict.power, verdict.pooled) if text]
    text = "\n".join([*told, *ladder.lines(), "", verdict.sentence, *beside])
    (work.folder / TEXT_FILE).write_text(text, encoding="utf-8")
    for name, data in plots.items():
        (work.folder / f"{name}.png").write_bytes(data)
    summary = {
        "version": given.version,
        "verdict": {**asdict(verdict), "proven": verdict.proven},
        "ladder": [asdict(rung) for rung in ladder.rungs],
        "choices": asdict(given.choices),
        "tables": {name: [asdict(result) for result in part] for name, part in tables.items()},
        "latency": latency,
        "notes": given.notes,
    }
    (work.folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return Report(verdict, ladder)


def _by_set(results: Sequence[SystemResult]) -> dict[str, list[SystemResult]]:
    """Return the results of each set, in the order of the page."""
    found: dict[str, list[SystemResult]] = {name: [] for name in _SET_TITLES}
    for result in results:
        found[result.question_set].append(result)
    return {name: part for name, part in found.items() if part}


def _encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def _examples(
    given: ReportInput, verdict: Verdict, rows: EvaluationRows
) -> dict[str, list[dict[str, Any]]]:
    """Return the questions that gained and lost most between base and what was chosen."""
    shown = verdict.candidate
    wanted = {BASE, shown}
    by_question: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows.rows.to_pylist():
        if row["question_set"] == verdict.primary_set and row["system"] in wanted:
            by_question.setdefault(row["question_id"], {})[row["system"]] = row
    places = {row["node_id"]: row for row in given.nodes.to_pylist()}
    changes = []
    for pair in by_question.values():
        if len(pair) == 2:
            before, after = pair[BASE], pair[shown]
            answer = places.get(before["relevant"][0], {})
            changes.append(
                {
                    "question": before["question"],
                    "change": after[PRIMARY] - before[PRIMARY],
                    "before": before["first_rank"] or "over 100",
                    "after": after["first_rank"] or "over 100",
                    "title": answer.get("title", ""),
                    "answer": str(answer.get("text", ""))[:400],
                    "instead": _snippet(places, after if after["first_rank"] != 1 else before),
                }
            )
    changes.sort(key=lambda change: -change["change"])
    return {
        "wins": [change for change in changes[:_EXAMPLES] if change["change"] > 0],
        "losses": [change for change in changes[::-1][:_EXAMPLES] if change["change"] < 0],
        "shown": [{"system": shown}],
    }


def _snippet(places: dict[str, dict[str, Any]], row: dict[str, Any]) -> str:
    return (
        str(places.get(row["top_nodes"][0], {}).get("text", ""))[:240] if row["top_nodes"] else ""
    )


def render_page(
    template: str, title: str, sentence: str, sections: Sequence[Section], **values: Any
) -> str:
    """Return a self-contained HTML page: its title, the decision, and what the template adds.

    Args:
        template: `report.html.j2`, or `answering.html.j2`, which has nothing but the sections.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape

    environment = Environment(
        loader=PackageLoader("ragft_pipeline.evaluation", "."), autoescape=select_autoescape(["j2"])
    )
    pictured = [(each, [_encoded(data) for data in each.plots.values()]) for each in sections]
    return environment.get_template(template).render(
        title=title, sentence=sentence, sections=pictured, **values
    )
