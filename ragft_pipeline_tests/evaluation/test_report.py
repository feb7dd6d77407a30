"""The page, whatever the questions chose."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragft_pipeline import schemas
from ragft_pipeline.evaluation.choosing import Choice, Choices, Weights
from ragft_pipeline.evaluation.names import BASE, CANDIDATE
from ragft_pipeline.evaluation.report import REPORT_FILE, ReportInput, write_report
from ragft_pipeline.evaluation.summary import UNTUNED
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline_tests.evaluation.test_summary import RANKED, evaluated, rows_of

SYSTEMS = {BASE: 0.4, UNTUNED: 0.5, RANKED: 0.6}


@pytest.mark.parametrize("chosen", [BASE, UNTUNED, RANKED])
def test_the_page_says_what_was_chosen_and_by_which_weights(tmp_path: Path, chosen: str) -> None:
    weights: dict[str, Weights] = {BASE: None, UNTUNED: 0.7, RANKED: {"dense": 1.25}}
    choices = Choices(60, Choice(chosen, weights), {"2": Choice(UNTUNED, weights)})
    rows = evaluated(rows_of({**SYSTEMS, CANDIDATE: SYSTEMS[chosen]})).rows
    given = ReportInput(
        "v1", rows, schemas.LATENCY.schema.empty_table(), schemas.NODES.schema.empty_table(),
        choices, {}, [], [], {},
    )  # fmt: skip
    report = write_report(
        given, Settings(), Workspace(ArtifactStore(tmp_path), "eval_report", tmp_path)
    )
    page = (tmp_path / REPORT_FILE).read_text(encoding="utf-8")
    assert report.verdict.candidate == chosen
    assert "hybrid(base) 0.7" in page
    assert ("dense 1.25" in page) == (chosen == RANKED)
