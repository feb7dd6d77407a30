"""Trainings in two processes of a Ray cluster end as they do in one process."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from ragft_pipeline import recipes
from ragft_pipeline.compute import Report, add_up, require_agreement, run_training, share
from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.lineage.steps import Recipe, materialize
from ragft_pipeline.settings import ComputeSettings, load_settings
from ragft_pipeline.store import Artifact
from ragft_pipeline_tests.conftest import Project, copy_sample

DATA: tuple[Recipe, ...] = (
    recipes.corpus_snapshot, recipes.chunked_nodes, recipes.train_nodes, recipes.val_nodes,
    recipes.gold_questions, recipes.corpus_statistics, recipes.node_embeddings,
    recipes.train_qa_pairs, recipes.val_qa_pairs, recipes.passage_context, recipes.teacher_scores,
    recipes.log_questions, recipes.log_scores,
)  # fmt: skip
SECTIONS: dict[str, Any] = {
    "questions": {"generators": [{"kind": "extractive"}]},
    "reranker": {
        "model": "embedded:all-minilm-l6-v2", "layers": 1, "max_questions": 27,
        "evaluations": 1, "val_questions": 4, "max_tokens": 64,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A project with all that trainings read."""
    project = Project(tmp_path_factory.mktemp("prepared"))
    copy_sample(project.corpus, 8)
    project.configure(**SECTIONS)
    version = project.snapshots.freeze(project.settings).version
    for recipe in DATA:
        materialize(recipe, project.settings, version)
    return project, version


@pytest.fixture
def two_trainers(on_ray: ComputeSettings) -> ComputeSettings:
    return on_ray.model_copy(update={"ray": on_ray.ray.model_copy(update={"trainers": 2})})


def train(
    prepared: tuple[Project, str],
    folder: Path,
    asset: Recipe,
    compute: ComputeSettings,
    report: Report = lambda line: None,
    **section: Any,
) -> Artifact:
    """Make one model in a copy of the project."""
    project, version = prepared
    shutil.copytree(project.store.root, folder, symlinks=True)
    settings = load_settings(project.settings_file)
    given = getattr(settings, asset.name).model_copy(update=section)
    settings = settings.model_copy(
        update={"store": str(folder), "compute": compute, asset.name: given}
    )
    made = materialize(asset, settings, version, report)
    assert made.link.how == "computed"
    return made.artifact


def assert_like(one: Artifact, other: Artifact) -> None:
    for name in ("val_ndcg_at_10", "loss", "loss_last", "val_ndcg_at_10_of_20"):
        if name in one.facts:
            assert one.facts[name] == pytest.approx(other.facts[name], abs=0.002)
    assert {file.name for file in one.path.iterdir()} == {
        file.name for file in other.path.iterdir()
    }
    weights, same = (load_file(next(made.path.rglob("model.safetensors"))) for made in (one, other))
    assert weights.keys() == same.keys()
    for name, tensor in weights.items():
        np.testing.assert_allclose(tensor, same[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    "recipe",
    [
        {"frozen_layers": 0.5},
        {"recipe": "query_tower"},
        {"recipe": "lora", "accumulate": True},
    ],
    ids=str,
)
def test_towers(
    prepared: tuple[Project, str],
    tmp_path: Path,
    two_trainers: ComputeSettings,
    recipe: dict[str, Any],
) -> None:
    said: list[str] = []
    here = train(prepared, tmp_path / "one", recipes.tuned_embedder, ComputeSettings(), **recipe)
    there = train(
        prepared, tmp_path / "two", recipes.tuned_embedder, two_trainers, said.append, **recipe
    )
    assert_like(here, there)
    steps = [line for line in said if "step" in line]
    assert len(steps) == len(set(steps)) > 0  # one process says them


@pytest.mark.parametrize("recipe", ["distill", "lambda", "bce"])
def test_rerankers(
    prepared: tuple[Project, str], tmp_path: Path, two_trainers: ComputeSettings, recipe: str
) -> None:
    here = train(prepared, tmp_path / "one", recipes.reranker, ComputeSettings(), recipe=recipe)
    there = train(prepared, tmp_path / "two", recipes.reranker, two_trainers, recipe=recipe)
    assert_like(here, there)


def test_a_killed_trainer_changes_nothing(
    prepared: tuple[Project, str], tmp_path: Path, two_trainers: ComputeSettings
) -> None:
    killed: list[int] = []

    def kill_one(line: str) -> None:
        if "step 10/" in line and not killed:
            killed.append(trainers()[-1])
            os.kill(killed[0], signal.SIGKILL)

    more = {"epochs": 4.0, "batch_size": 8}
    here = train(prepared, tmp_path / "one", recipes.tuned_embedder, ComputeSettings(), **more)
    there = train(
        prepared, tmp_path / "two", recipes.tuned_embedder, two_trainers, kill_one, **more
    )
    assert killed
    assert_like(here, there)


def trainers() -> list[int]:
    """Return the processes that train now."""
    from ray.util.state import list_actors

    alive = list_actors(filters=[("state", "=", "ALIVE")], detail=True)
    return [actor.pid for actor in alive if "RayTrainWorker" in actor.class_name]


@dataclass(frozen=True)
class Fails:
    error: str

    def __call__(self, report: Report) -> None:
        import torch

        assert add_up(torch.ones(1)).item() == share()[1] == 2
        raise RagftError(self.error)


def test_what_a_training_raises_arrives(tmp_path: Path, two_trainers: ComputeSettings) -> None:
    with pytest.raises(RagftError, match=r"^no such head$"):
        run_training(Fails("no such head"), two_trainers, print, tmp_path)


def test_more_trainers_than_fit_are_refused(tmp_path: Path, on_ray: ComputeSettings) -> None:
    ray = on_ray.ray.model_copy(update={"trainers": 3})
    with pytest.raises(RagftError, match=r"compute\.ray\.trainers = 3: the cluster has room for 2"):
        run_training(Fails(""), on_ray.model_copy(update={"ray": ray}), print, tmp_path)


def test_a_step_that_cannot_be_shared_evenly_is_refused(
    prepared: tuple[Project, str], tmp_path: Path, two_trainers: ComputeSettings
) -> None:
    with pytest.raises(RagftError, match="must divide the reranker's 3 of a step"):
        train(prepared, tmp_path / "odd", recipes.reranker, two_trainers, batch_size=3)


@dataclass(frozen=True)
class Differ:
    def __call__(self, report: Report) -> None:
        require_agreement(share()[0], "the checkpoint c.pt")


def test_trainers_that_see_other_checkpoints_do_not_go_on(
    tmp_path: Path, two_trainers: ComputeSettings
) -> None:
    with pytest.raises(RagftError, match=r"checkpoint c\.pt is not the same for all trainers"):
        run_training(Differ(), two_trainers, print, tmp_path)


@dataclass(frozen=True)
class Dies:
    def __call__(self, report: Report) -> None:
        time.sleep(2)  # Ray never frees the room of processes that die while it starts them
        os.kill(os.getpid(), signal.SIGKILL)


def test_trainers_that_always_die_are_a_transient_error(
    tmp_path: Path, two_trainers: ComputeSettings
) -> None:
    with pytest.raises(TransientError, match="Ray gave up"):
        run_training(Dies(), two_trainers, print, tmp_path)
