from __future__ import annotations

from pathlib import Path

import pytest

from ragft_pipeline.errors import RagftError
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.lineage.taint import (
    TRAINED_ON_FILE,
    document_keys,
    record_documents,
    tainted_models,
)
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.serving.history import History
from ragft_pipeline.store import Link
from ragft_pipeline.versions.comparison import diff_lines
from ragft_pipeline_tests.conftest import Project, make_project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    return made.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two versions of a small corpus."""
    project = make_project(tmp_path_factory.mktemp("versions"), documents=12)
    for _ in range(2):
        version = project.snapshots.freeze(project.settings).version
        for recipe in RECIPES[:4]:
            materialize(recipe, project.settings, version)
        docs = project.corpus / "docs"
        files = sorted(docs.rglob("*.md"))
        files[0].rename(files[0].with_name("moved.md"))
        files[1].unlink()
        files[2].write_text(files[2].read_text(encoding="utf-8") + "\n\nA new last line.\n")
    return project


def test_diff_names_what_was_added_moved_changed_and_removed(project: Project) -> None:
    before, after = (project.snapshots.load(v) for v in project.snapshots.versions())
    lines = list(diff_lines(before, after, project.store, project.settings.evaluation))
    kinds = [line.split()[0] for line in lines if line.startswith("  ")]
    assert sorted(kinds) == ["changed", "removed", "renamed"]
    assert any(line.startswith("chunked_nodes: ") and " added, " in line for line in lines)
    assert "train_qa_pairs: not materialized for both" in lines


def test_taint_finds_a_model_by_path_and_by_digest(project: Project) -> None:
    nodes = project.artifact("train_nodes").table()
    model = project.store.root / "artifacts" / "tuned_embedder" / "abc" / "model"
    model.mkdir(parents=True)
    record_documents(model, nodes)
    key = nodes.column("doc_key")[0].as_py()
    (found,) = tainted_models(project.snapshots, document_keys(project.snapshots, key))
    assert (found.asset, found.place) == ("tuned_embedder", str(model))
    assert tainted_models(project.snapshots, {"0" * 64}) == []


def test_taint_finds_the_models_in_service_when_their_artifacts_are_gone(project: Project) -> None:
    nodes, (first, _) = project.artifact("train_nodes").table(), project.snapshots.versions()
    for digest in ("old", "new"):
        model = project.store.root / "bundles" / digest / "models" / "adapter"
        model.mkdir(parents=True)
        record_documents(model, nodes)
        History(project.store).append(
            History(project.store).current(), "promoted", digest, first, "a test"
        )
    facts = {"bundle": "new", "candidate": "new"}
    project.store.link(Link("champion", first, "a", "d", "computed", 0.0, facts))
    new, old = tainted_models(project.snapshots, {nodes.column("doc_key")[0].as_py()})
    assert (new.asset, new.place, new.versions, new.served) == ("bundle", str(model), [first], True)
    assert (old.versions, old.served) == ([], False)


def test_a_refitted_models_documents_are_also_those_that_chose_its_strength(
    tmp_path: Path, project: Project
) -> None:
    train, val = (project.artifact(f"{split}_nodes").table() for split in ("train", "val"))
    record_documents(tmp_path / "measured", val)
    record_documents(tmp_path / "refitted", train, chosen_with=tmp_path / "measured")
    record_documents(tmp_path / "both", train, val)
    both, refitted = ((tmp_path / n / TRAINED_ON_FILE).read_text() for n in ("both", "refitted"))
    assert refitted == both


def test_taint_of_an_unknown_document_is_an_error(project: Project) -> None:
    with pytest.raises(RagftError, match="no version has a document"):
        document_keys(project.snapshots, "nowhere.md")
