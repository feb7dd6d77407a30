"""Term statistics in force are taken from the version that counted them."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from ragft_pipeline import recipes
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline_tests.conftest import make_project

NEEDED = (
    recipes.corpus_snapshot, recipes.chunked_nodes, recipes.train_nodes, recipes.corpus_statistics,
)  # fmt: skip


def test_a_later_version_does_not_count_again(tmp_path: Path) -> None:
    project = make_project(tmp_path, documents=10)
    project.configure(statistics={"refresh_share": 1.0})
    first = project.snapshots.freeze(project.settings)
    before = [materialize(recipe, project.settings, first.version) for recipe in NEEDED][-1]
    for file in (project.corpus / "docs").rglob("*.md"):
        file.write_text(f"{file.read_text('utf-8')}\nOne more line.\n", encoding="utf-8")
    second = project.snapshots.freeze(project.settings)
    assert second.facts["statistics_version"] == first.version
    for recipe in NEEDED[:-1]:
        materialize(recipe, project.settings, second.version)
    with patch("ragft_pipeline.recipes.corpus.cut_version", side_effect=AssertionError):
        after = materialize(recipes.corpus_statistics, project.settings, second.version)
    assert after.artifact.data_version == before.artifact.data_version
    assert after.artifact.table().equals(before.artifact.table())
