"""The page, whatever the questions chose."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from ragft_pipeline import schemas
from ragft_pipeline.evaluation.choosing import Choice, Choices, Weights
from ragft_pipeline.evaluation.names import BASE, CANDIDATE
from ragft_pipeline.evaluation.report import (
    REPORT_FILE,
    TEXT_FILE,
    Report,
    ReportInput,
    write_report,
)
from ragft_pipeline.evaluation.summary import UNTUNED
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline_tests.evaluation.test_summary import RANKED, evaluated, rows_of

SYSTEMS = {BASE: 0.4, UNTUNED: 0.5, RANKED: 0.6}


def written(folder: Path, chosen: str, choices: Choices, **pooled: float) -> tuple[Report, str]:
    """Return the report on a choice and its page; some questions were judged from pools."""
    made = rows_of({**SYSTEMS, CANDIDATE: SYSTEMS[chosen]})
    for row in made[::3]:
        row.update(pooled)
    given = ReportInput(
        "v1", evaluated(made).rows, schemas.LATENCY.schema.empty_table(),
        schemas.NODES.schema.empty_table(), choices, {}, [], [], {},
    )  # fmt: skip
    report = write_report(
        given, Settings(), Workspace(ArtifactStore(folder), "eval_report", folder)
    )
    return report, (folder / REPORT_FILE).read_text(encoding="utf-8")


@pytest.mark.parametrize("chosen", [BASE, UNTUNED, RANKED])
def test_the_page_says_what_was_chosen_and_by_which_weights(tmp_path: Path, chosen: str) -> None:
    weights: dict[str, Weights] = {BASE: None, UNTUNED: 0.7, RANKED: {"dense": 1.25}}
    choices = Choices(60, Choice(chosen, weights), {"2": Choice(UNTUNED, weights)})
    report, page = written(tmp_path, chosen, choices)
    assert report.verdict.candidate == chosen
    assert "hybrid(base) 0.7" in page
    assert ("dense 1.25" in page) == (chosen == RANKED)
    assert "unjudged" not in page


def test_the_page_says_how_much_nobody_judged_of_pooled_questions(tmp_path: Path) -> None:
    weights: dict[str, Weights] = {BASE: None, UNTUNED: 0.7, RANKED: {"dense": 1.25}}
    choices = Choices(60, Choice(RANKED, weights), {"2": Choice(UNTUNED, weights)})
    beside = {"unjudged_at_10": 0.3, "condensed_ndcg_at_10": 0.875}
    report, page = written(tmp_path, RANKED, choices, **beside)
    said = report.facts()["pooled"]
    assert said.startswith("20 of the questions were judged from pools: of the first ten passages")
    assert "nobody judged 30% of the untuned hybrid, with ranker's" in said
    assert "without them it is 0.875 and 0.875" in said
    assert said in html.unescape(page)
    assert said in (tmp_path / TEXT_FILE).read_text(encoding="utf-8")
    assert "<td>30%</td><td>0.875</td>" in page
