"""One manual, or contracts of one template, end with a verdict and a champion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragft_pipeline import schemas
from ragft_pipeline.lineage.foresight import require_measurable
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.recipes.corpus import chunked_nodes, corpus_snapshot
from ragft_pipeline_tests.conftest import SAMPLE, Project
from ragft_pipeline_tests.corpora import write_corpus

PAGES = sorted((SAMPLE / "docs").rglob("*.md"))


def chapters(first: int, last: int) -> list[str]:
    """Return documents of the sample as chapters: their headings are one level lower."""
    return [
        "\n".join(f"#{line}" if line.startswith("#") else line for line in text.splitlines())
        for text in (page.read_text(encoding="utf-8") for page in PAGES[first:last])
    ]


def contract(number: int) -> str:
    """Return a contract of one template: the parties and the prices are its own."""
    party, price = f"Customer {number}", 1000 + 37 * number
    own = f"{party} hires one pump for {price} EUR a year, from {number + 1} May on."
    return "\n\n".join([f"# Contract with {party}", own, *chapters(8, 10)])


CORPORA = {
    "manual": {"manual.md": "\n\n".join(["# Handbook", *chapters(0, 4)])},
    "contracts": {f"contract{n}.md": contract(n) for n in range(8)},
}


def project_of(folder: Path, documents: dict[str, str]) -> Project:
    project = Project(folder)
    write_corpus(project.corpus, documents)
    project.configure(questions={"generators": [{"kind": "extractive"}]}, reranker={})
    return project


@pytest.mark.parametrize("name", CORPORA)
def test_sections_are_held_out_of_what_cannot_be_split(tmp_path: Path, name: str) -> None:
    project = project_of(tmp_path, CORPORA[name])
    snapshot = project.snapshots.freeze(project.settings)
    assert snapshot.facts["sections"]
    require_measurable(snapshot)
    for recipe in (corpus_snapshot, chunked_nodes):
        materialize(recipe, project.settings, snapshot.version)
    nodes = project.artifact("chunked_nodes").table().to_pylist()
    splits: dict[str, set[str]] = {}
    for node in nodes:
        splits.setdefault(node["node_id"], set()).add(node["split"])
    assert all(len(own) == 1 for own in splits.values())
    assert {node["split"] for node in nodes} == {"train", "val", "test"}
    texts = {row["doc_key"]: project.snapshots.text(row["doc_key"]) for row in rows(project)}
    for node in nodes:
        own = texts[node["doc_key"]][node["start_char"] : node["end_char"]]
        assert own == node["text"]


def rows(project: Project) -> list[dict[str, str]]:
    snapshot = project.snapshots.load(project.snapshots.versions()[-1])
    return list(snapshot.table(schemas.DOCUMENTS).to_pylist())


def verdict_of(project: Project) -> str:
    """Run the project; return what was said."""
    run = project.ragft("run")
    assert run.returncode == 0, run.stdout + run.stderr
    report = project.artifact("eval_report")
    assert report.facts["verdict"]
    assert "split by their sections" in report.facts["notes"]
    champion = project.ragft("champion")
    assert champion.returncode == 0, champion.stdout + champion.stderr
    return run.stdout


@pytest.mark.slow
def test_one_manual_ends_with_a_verdict_and_a_champion(tmp_path: Path) -> None:
    project = project_of(tmp_path, CORPORA["manual"])
    assert "1 document (manual.md): too few" in verdict_of(project)
    assert project.artifact("champion").facts["event"] == "promoted"
    verdict = project.artifact("eval_report").facts["verdict"]
    assert verdict.startswith("There is no question of people to decide with")


@pytest.mark.slow
def test_contracts_of_one_template_end_with_a_verdict_and_a_champion(tmp_path: Path) -> None:
    project = project_of(tmp_path, CORPORA["contracts"])
    prices = [
        {
            "question": f"What does Customer {number} pay?",
            "doc": f"contract{number}.md",
            "answer_text": f"{1000 + 37 * number} EUR a year",
        }
        for number in range(8)
    ]
    lines = "\n".join(map(json.dumps, prices))
    (project.corpus / "queries.jsonl").write_text(lines, encoding="utf-8")
    said = verdict_of(project)
    assert "contract2.md, …): too few, or too alike" in said
    assert "left out" not in said
    assert "8 people's questions about" in said
