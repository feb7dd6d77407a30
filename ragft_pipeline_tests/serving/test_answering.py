from __future__ import annotations

import pytest

from ragft_pipeline.answering.evaluation import BASE, CLOSED_BOOK, PASSAGES, TUNED
from ragft_pipeline.answering.hosted import JOB_FILE
from ragft_pipeline.evaluation.report import REPORT_FILE
from ragft_pipeline_tests.answering.fine_tuning_server import FineTuningServer, serving
from ragft_pipeline_tests.conftest import Project

QUESTION = "how is the strainer cleaned?"


def test_the_evaluation_asks_both_models_the_same(finished: Project) -> None:
    rows = finished.artifact("llm_eval").table().to_pylist()
    assert {row["system"] for row in rows} == {BASE, TUNED}
    asked = {
        system: {
            (row["question_id"], row["mode"], tuple(row["passages"]))
            for row in rows
            if row["system"] == system
        }
        for system in (BASE, TUNED)
    }
    assert asked[BASE] == asked[TUNED]
    assert {row["mode"] for row in rows} == {PASSAGES, CLOSED_BOOK}
    test = set(finished.artifact("test_nodes").table().column("cluster").to_pylist())
    assert {row["cluster"] for row in rows} <= test


def test_the_report_has_the_answers_and_the_verdict(finished: Project) -> None:
    report = finished.artifact("answering_report")
    page = (report.path / REPORT_FILE).read_text(encoding="utf-8")
    assert "<h2>Base and tuned model on the same passages</h2>" in page
    assert report.facts["verdict"].startswith(("keep base: ", "answer with the tuned model: "))
    assert report.facts["verdict"].replace("'", "&#39;") in page


@pytest.mark.parametrize("model", ["base", "tuned"])
def test_ask_answers_with_the_passages_it_was_given(finished: Project, model: str) -> None:
    run = finished.ragft("ask", QUESTION, "--model", model)
    assert run.returncode == 0, run.stderr
    assert "[1] " in run.stdout
    assert "[3] " in run.stdout
    assert ".md" in run.stdout


def test_a_hosted_job_goes_through_the_graph_once(
    copied: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNING_KEY", FineTuningServer.key)
    assets = "tuned_llm,llm_eval,eval_report"
    with serving() as server:
        hosted = {"base_url": server.url, "model": "small-1", "api_key_env": "TUNING_KEY"}
        copied.configure(tuned_llm={"where": "hosted", "hosted": {**hosted, "poll_seconds": 0.05}})
        for _ in range(2):
            run = copied.ragft("run", "--assets", assets)
            assert run.returncode == 0, run.stdout + run.stderr
        assert len(server.jobs) == 1
        tuned = copied.artifact("tuned_llm")
        assert tuned.facts["hosted_model"] == "ft:small-1:ftjob-1"
        assert (tuned.model / JOB_FILE).is_file()
        rows = copied.artifact("llm_eval").table().to_pylist()
        cited = [r["citation_precision"] for r in rows if r["system"] == BASE and r["relevant"]]
        assert set(cited) <= {0.0}
        assert any(row["cited"] == [1] for row in rows if row["system"] == TUNED)
        asked = copied.ragft("ask", QUESTION, "--model", "tuned")
        assert '" [1]' in asked.stdout, asked.stderr
    for path in copied.folder.rglob("*"):
        if path.is_file():
            assert FineTuningServer.key.encode() not in path.read_bytes(), path
