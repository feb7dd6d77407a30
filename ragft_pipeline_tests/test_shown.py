"""No run starts where Dagster shows a version as it is; test_pipeline has the whole of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.versions import shown
from ragft_pipeline.versions.shown import home_folder, is_shown, note_shown
from ragft_pipeline_tests.conftest import Project
from ragft_pipeline_tests.corpora import write_corpus


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    project = Project(tmp_path)
    write_corpus(project.corpus, {"a.md": "Valves open at six.", "b.md": "Doors close at ten."})
    project.configure()
    home_folder(project.settings).mkdir(parents=True)
    return project


def test_what_is_missing_or_was_never_told_is_not_shown(project: Project) -> None:
    version = project.snapshots.freeze(project.settings).version
    assert not is_shown(project.bound, version)
    note_shown(project.bound, version)
    assert not is_shown(project.bound, version)  # its assets are missing


def test_what_changed_since_it_was_told_is_not_shown(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = dict.fromkeys((recipe.name for recipe in RECIPES), "computed")
    monkeypatch.setattr(shown, "states", lambda *_: fresh)
    version = project.snapshots.freeze(project.settings).version
    note_shown(project.bound, version)
    assert is_shown(project.bound, version)
    materialize(RECIPES[0], project.settings, version)  # Dagster was not told
    assert not is_shown(project.bound, version)
    note_shown(project.bound, version)
    write_corpus(project.corpus, {"c.md": "Keys hang by the door."})
    later = project.snapshots.freeze(project.settings).version
    assert not is_shown(project.bound, version)
    assert not is_shown(project.bound, later)
    fresh["champion"] = "stale (turn changed)"
    note_shown(project.bound, later)
    assert not is_shown(project.bound, later)
