"""Retrain or keep: what each policy does with the model of the version before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ragft_pipeline.lineage.drift import JUDGES
from ragft_pipeline.lineage.retraining import LOGGED, TRAIN, VAL, decide, record_rows
from ragft_pipeline.lineage.steps import Decision, Outcome, Recipe, Step, materialize
from ragft_pipeline.recipes import RECIPES, embedding_adapter, retrieval_eval
from ragft_pipeline.recipes.models import MEASURED
from ragft_pipeline.store import Workspace
from ragft_pipeline.versions.staleness import states
from ragft_pipeline.versions.status import status_table
from ragft_pipeline_tests.conftest import Project, make_project
from ragft_pipeline_tests.short_model import short_embedder


def _above(recipe: Recipe) -> list[Recipe]:
    """Return what an asset comes from, first what comes first."""
    wanted = {recipe.name}
    for other in reversed(RECIPES):
        if other.name in wanted:
            wanted.update(other.inputs)
    return [other for other in RECIPES if other.name in wanted - {recipe.name}]


EXTRACTIVE: dict[str, object] = {"generators": [{"kind": "extractive"}]}
_UPSTREAM = _above(embedding_adapter)


def _extractive(project: Project, **sections: dict[str, object]) -> None:
    project.configure(questions=EXTRACTIVE, **sections)


def _freeze_and_prepare(project: Project) -> str:
    """Freeze a version, make what the adapter is trained on, and return its name."""
    version = project.snapshots.freeze(project.settings).version
    for recipe in _UPSTREAM:
        materialize(recipe, project.settings, version)
    return version


def _train(project: Project) -> Outcome:
    """Train the adapter of the last version, or keep the one before."""
    return materialize(embedding_adapter, project.settings, project.snapshots.versions()[-1])


def _bring_up_to_date(project: Project) -> Outcome:
    _freeze_and_prepare(project)
    return _train(project)


def _train_file(project: Project, which: int = 0) -> Path:
    rows = project.artifact("corpus_snapshot").table().to_pylist()
    paths = [r["path"] for r in rows if r["split"] == "train" and r["path"].endswith(".md")]
    return project.corpus / "docs" / str(paths[which])


def _append(file: Path, text: str) -> None:
    file.write_text(file.read_text(encoding="utf-8") + f"\n\n{text}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("trained"), documents=8)
    _extractive(project)
    assert _bring_up_to_date(project).link.how == "computed"
    return project


@pytest.fixture(scope="module")
def changed(trained: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same with a second version, of a changed train document, before its adapter is made."""
    project = _copy(trained, tmp_path_factory.mktemp("changed"))
    _append(_train_file(project), "The brass plate on the new manifold is stamped with a letter.")
    _freeze_and_prepare(project)
    return project


def _copy(project: Project, folder: Path) -> Project:
    return project.copy(folder / "project", questions=EXTRACTIVE)


@pytest.fixture
def project(trained: Project, tmp_path: Path) -> Project:
    return _copy(trained, tmp_path)


@pytest.fixture
def edited(changed: Project, tmp_path: Path) -> Project:
    return _copy(changed, tmp_path)


def test_always_trains_for_every_change_of_the_training_rows(edited: Project) -> None:
    assert _train(edited).link.how == "computed"


def test_share_changed_carries_the_model_forward_and_says_so(edited: Project) -> None:
    _extractive(edited, retrain_policy={"kind": "share_changed", "share": 0.2})
    before = edited.artifact("embedding_adapter", edited.snapshots.versions()[0])
    outcome = _train(edited)
    assert outcome.link.how == "carried"
    assert outcome.artifact.action == before.action
    assert "of the training rows changed (< 20.0%)" in outcome.link.reason
    version = edited.snapshots.versions()[-1]
    assert states(version, edited.snapshots, edited.settings)["embedding_adapter"] == "carried"
    assert "carried forward: " in status_table(edited.snapshots, edited.settings, last=2)


def test_share_is_counted_from_the_model_in_use_so_that_small_changes_add_up(
    project: Project,
) -> None:
    seen = []
    for number in range(2):
        _extractive(project, retrain_policy={"kind": "share_changed", "share": 0.9})
        _append(
            _train_file(project, number),
            f"Valve number {number}{number} is greased with paste {number} in autumn.",
        )
        reason = _bring_up_to_date(project).link.reason
        seen.append(float(reason.split("%")[0]))
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]


def test_more_than_the_share_retrains(edited: Project) -> None:
    _extractive(edited, retrain_policy={"kind": "share_changed", "share": 0.001})
    assert _train(edited).link.how == "computed"


def test_changed_settings_retrain_whatever_the_policy(edited: Project) -> None:
    policy = {"kind": "share_changed", "share": 1.0}
    _extractive(edited, retrain_policy=policy, adapter={"checkpoints": 2, "seed": 5})
    assert _train(edited).link.how == "computed"
    edited.configure(
        questions={"generators": [{"kind": "extractive", "keywords": 1}]}, retrain_policy=policy
    )
    assert _bring_up_to_date(edited).link.how == "computed"


def test_carried_model_is_stale_once_the_policy_wants_training(edited: Project) -> None:
    _extractive(edited, retrain_policy={"kind": "share_changed", "share": 0.5})
    assert _train(edited).link.how == "carried"
    _extractive(edited)
    version = edited.snapshots.versions()[-1]
    state = states(version, edited.snapshots, edited.settings)["embedding_adapter"]
    assert state.startswith("stale (")
    assert _train(edited).link.how == "computed"


def _judged(project: Project, drop: float, tmp_path: Path) -> Decision:
    """Decide by drift with a judge whose gains on the new rows are lower by `drop`."""
    version = project.snapshots.versions()[-1]
    model = project.artifact("embedding_adapter")
    new = _with_new_nodes(_rows(project))
    step = Step(
        project.settings, project.store, version,
        Workspace(project.store, "embedding_adapter", tmp_path),
    )  # fmt: skip

    def judge(step: Step, folder: Path, pairs: pa.Table) -> np.ndarray:
        fresh = np.array([node.startswith("new") for node in pairs.column("node_id").to_pylist()])
        noise = np.random.default_rng(1).normal(0, 0.1, pairs.num_rows)
        return noise - drop * fresh

    return decide(step, model, new, judge)


def _rows(project: Project) -> dict[str, pa.Table]:
    return {name: project.artifact(f"{name}_qa_pairs").table() for name in (TRAIN, VAL)}


def _with_new_nodes(rows: dict[str, pa.Table]) -> dict[str, pa.Table]:
    pairs, val = rows[TRAIN], rows[VAL]
    half = pairs.slice(0, pairs.num_rows // 2)
    names = [f"new{n}" for n in half.column("node_id").to_pylist()]
    column = half.schema.get_field_index("node_id")
    renamed = half.set_column(column, "node_id", pa.array(names))
    both = pa.concat_tables([renamed, pairs.slice(half.num_rows)])
    column = pairs.schema.get_field_index("cluster")
    return {TRAIN: both, VAL: val.set_column(column, "cluster", val.column("node_id"))}


def test_drift_retrains_only_when_the_drop_is_proven(project: Project, tmp_path: Path) -> None:
    _extractive(project, retrain_policy={"kind": "drift", "min_questions": 5})
    drifted = _judged(project, 0.5, tmp_path)
    assert not drifted.keep
    assert drifted.reason.startswith("drifted: ")
    steady = _judged(project, 0.0, tmp_path)
    assert steady.keep
    assert steady.reason.startswith("no drift: ")


def test_drift_scores_the_real_model_on_new_and_unchanged_questions(project: Project) -> None:
    _extractive(project, retrain_policy={"kind": "drift", "min_questions": 1})
    for number in range(6):
        _append(
            _train_file(project), f"Pump {number} of the depot is bled every {number + 2} days."
        )
    outcome = _bring_up_to_date(project)
    assert "drift" in outcome.link.reason


class _LaterStep(Step):
    """A step of a version in which every node has come to stand in a test document."""

    def table(self, asset: str, columns: Sequence[str] | None = None) -> pa.Table:
        nodes = super().table(asset, columns)
        column = nodes.schema.get_field_index("split")
        return nodes.set_column(column, "split", pa.array(["test"] * nodes.num_rows))


def test_model_that_saw_a_text_held_out_by_now_is_not_kept(
    project: Project, tmp_path: Path
) -> None:
    _extractive(project, retrain_policy={"kind": "share_changed", "share": 1.0})
    rows = _rows(project)
    work = Workspace(project.store, "embedding_adapter", tmp_path)
    given = (project.settings, project.store, project.snapshots.versions()[-1], work)
    model = project.artifact("embedding_adapter")
    assert decide(Step(*given), model, rows, JUDGES["embedding_adapter"]).keep
    decision = decide(_LaterStep(*given), model, rows, JUDGES["embedding_adapter"])
    assert not decision.keep
    assert "held out by now" in decision.reason


def _graph(project: Project) -> dict[str, Outcome]:
    """Make everything up to the evaluation for the documents as they are."""
    version = project.snapshots.freeze(project.settings).version
    wanted = [*_above(retrieval_eval), retrieval_eval]
    return {one.name: materialize(one, project.settings, version) for one in wanted}


@pytest.mark.slow
def test_an_edit_that_keeps_what_was_trained_is_followed_by_the_evaluation(tmp_path: Path) -> None:
    project = make_project(tmp_path, documents=8)
    _extractive(
        project,
        embedder={"model": str(short_embedder())},
        retrain_policy={"kind": "share_changed", "share": 0.3},
        tuned_embedder={"epochs": 1},
    )
    _graph(project)
    _append(_train_file(project), "The brass plate on the new manifold is stamped with a letter.")
    made = _graph(project)
    trained = (*MEASURED, "refit_models")
    assert {name: made[name].link.how for name in trained} == dict.fromkeys(trained, "carried")
    facts = made["retrieval_eval"].artifact.facts
    assert facts["questions_followed"] > facts["questions_searched"]
    _extractive(
        project,
        embedder={"model": str(short_embedder())},
        retrain_policy={"kind": "share_changed", "share": 0.3},
        tuned_embedder={"epochs": 2},
    )
    made = _graph(project)
    for name in ("tuned_embedder", "stacked_adapter", "refit_models"):
        assert made[name].link.how == "computed"
    assert made["late_interaction"].link.how in ("reused", "carried")


def test_model_that_learnt_from_a_question_of_the_log_that_may_not_by_now_is_not_kept(
    project: Project, tmp_path: Path
) -> None:
    _extractive(project, retrain_policy={"kind": "share_changed", "share": 1.0})
    rows = _rows(project)
    log = pa.table({"question_id": ["a", "b"]})
    record_rows(tmp_path, {**rows, LOGGED: log})
    work = Workspace(project.store, "embedding_adapter", tmp_path)
    step = Step(project.settings, project.store, project.snapshots.versions()[-1], work)
    model = replace(project.artifact("embedding_adapter"), folder=tmp_path)
    assert decide(step, model, {**rows, LOGGED: log}).keep
    more = pa.table({"question_id": ["a", "b", "c"]})
    assert decide(step, model, {**rows, LOGGED: more}).keep
    decision = decide(step, model, {**rows, LOGGED: log.slice(1)})
    assert not decision.keep
    assert decision.reason.startswith("1 questions of the log")
