"""Steps as jobs of a Ray cluster, through dagster-ray's executor."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from ragft_pipeline import Corpus, recipes
from ragft_pipeline.defs.executor import chosen_executor, step_tags
from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings import ComputeSettings, Settings, parse_settings
from ragft_pipeline_tests.conftest import make_project


def test_steps_run_as_jobs_of_the_cluster(tmp_path: Path, on_ray: ComputeSettings) -> None:
    pytest.importorskip("dagster_ray", reason="the extra `ray` is not installed")
    project = make_project(tmp_path, documents=4)
    project.configure(compute=on_ray.model_dump(mode="json"))
    run = project.ragft("run", "--assets", "corpus_snapshot,chunked_nodes")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "chunked_nodes: computed" in run.stdout
    assert project.artifact("chunked_nodes").facts["rows_computed"] == 4
    failed = project.ragft("run", "--assets", "teacher_scores")
    assert failed.returncode == 1
    assert "ragft: teacher_scores failed: teacher_scores needs train_qa_pairs" in failed.stderr
    with dg.DagsterInstance.from_config(str(project.folder / "store" / "dagster_home")) as instance:
        told = [e.message for r in instance.get_runs() for e in instance.all_logs(r.run_id)]
    assert any('Executing step "chunked_nodes" in Ray job' in line for line in told)


def test_steps_ask_for_what_the_settings_say() -> None:
    settings = parse_settings(
        "compute: {runner: ray, ray: {steps: [{asset: tuned_embedder, cpus: 8, gpus: 1}]}}"
    )

    def asked(recipe: recipes.Recipe) -> tuple[float, float, str]:
        tag = json.loads(step_tags(recipe, settings)["dagster-ray/config"])
        threads = tag["runtime_env"]["env_vars"]["OMP_NUM_THREADS"]
        return tag["num_cpus"], tag["num_gpus"], threads

    assert asked(recipes.tuned_embedder) == (8, 1, "8")
    assert asked(recipes.reranker) == (1, 0, "1")
    assert asked(recipes.train_nodes) == (0, 0, "1")
    assert step_tags(recipes.reranker, Settings()) == {}


def bound(folder: Path, text: str) -> Corpus:
    (folder / "ragft.yaml").write_text(text, encoding="utf-8")
    return Corpus(settings_file=str(folder / "ragft.yaml"))


def test_without_a_cluster_steps_stay_in_the_runs_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert chosen_executor(bound(tmp_path, "")) is dg.in_process_executor
    assert chosen_executor(bound(tmp_path, "compute: ray")) is dg.in_process_executor


def test_a_step_of_an_unknown_asset_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("dagster_ray", reason="the extra `ray` is not installed")
    settings = "compute: {runner: ray, ray: {address: a:1, steps: [{asset: tuned_embeder}]}}"
    with pytest.raises(RagftError, match=r"compute\.ray\.steps: there is no asset 'tuned_embeder'"):
        chosen_executor(bound(tmp_path, settings))
