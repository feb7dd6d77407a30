"""A version's decision is due once, and again when the documents come back to it."""

from __future__ import annotations

from pathlib import Path

from ragft_pipeline.release.turns import turn
from ragft_pipeline.serving.history import Event, History
from ragft_pipeline_tests.conftest import make_project


def test_a_decision_is_due_whenever_the_corpus_comes_to_a_version(tmp_path: Path) -> None:
    project = make_project(tmp_path, documents=4)
    history = History(project.store)
    file = next((project.corpus / "docs").rglob("*.md"))
    text = file.read_text(encoding="utf-8")

    def decide(version: str, event: Event = "refreshed") -> None:
        history.append(history.current(), event, version, version, "a test")

    first = project.snapshots.freeze(project.settings)
    due = turn(first)
    decide(first.version)
    assert turn(first) == due, "made, it is not due again"

    file.write_text(text + "\nOne more line.\n", encoding="utf-8")
    second = project.snapshots.freeze(project.settings)
    file.write_text(text + "\nAnother line.\n", encoding="utf-8")
    third = project.snapshots.freeze(project.settings)
    passed_over = turn(second)
    decide(third.version)
    assert turn(first) == due, "it is another version's turn"

    file.write_text(text, encoding="utf-8")
    project.snapshots.freeze(project.settings)
    again = turn(first)
    assert again != due, "the documents came back"
    decide(first.version)
    decide(third.version, "forced")
    assert turn(first) == again, "what a person decides stands"

    file.write_text(text + "\nOne more line.\n", encoding="utf-8")
    project.snapshots.freeze(project.settings)
    assert turn(second) != passed_over, "never decided, because it never was the corpus"


def test_a_decision_is_due_again_after_a_roll_back_that_another_version_kept(
    tmp_path: Path,
) -> None:
    project = make_project(tmp_path, documents=4)
    history = History(project.store)
    file = next((project.corpus / "docs").rglob("*.md"))
    text = file.read_text(encoding="utf-8")
    first = project.snapshots.freeze(project.settings)
    history.append(None, "promoted", "one", first.version, "a test")
    file.write_text(text + "\nOne more line.\n", encoding="utf-8")
    second = project.snapshots.freeze(project.settings)
    due = turn(second)
    history.append(history.current(), "refreshed", "two", second.version, "a test")
    history.roll_back("the first one was better")

    file.write_text(text, encoding="utf-8")
    project.snapshots.freeze(project.settings)  # decided: what is served is of these documents
    project.snapshots.freeze(project.settings)
    file.write_text(text + "\nOne more line.\n", encoding="utf-8")
    project.snapshots.freeze(project.settings)
    assert turn(second) == due.replace("turn 1", "turn 2"), "the first one is served still"
