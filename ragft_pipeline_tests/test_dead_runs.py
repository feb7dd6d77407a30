"""A run whose process was killed stands in nobody's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg

from ragft_pipeline.defs.dead_runs import end_dead_runs, holding
from ragft_pipeline.instance import HEAVY_POOL
from ragft_pipeline_tests.conftest import ROOT, Project
from ragft_pipeline_tests.corpora import prose, write_corpus

DIE_IN_AN_ASSET = """
import os, signal, sys
from ragft_pipeline.defs import policy
policy.materialize = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
from ragft_pipeline.cli import main
main(sys.argv[1:])
"""


def test_a_killed_run_is_ended_and_its_place_in_the_pool_freed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    write_corpus(project.corpus, {f"{n}.md": prose(n) for n in range(3)})
    project.configure()
    before = project.ragft("run", "--assets", "corpus_snapshot,chunked_nodes")
    assert before.returncode == 0, before.stderr
    environment = {**os.environ, "RAGFT_SETTINGS": str(project.settings_file)}
    environment.pop("DAGSTER_HOME", None)
    heavy = ["run", "--assets", "node_embeddings"]
    killed = subprocess.run(
        [sys.executable, "-c", DIE_IN_AN_ASSET, *heavy],
        cwd=ROOT, env=environment, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    home = project.store.root / "dagster_home"
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.event_log_storage.get_concurrency_info(HEAVY_POOL).active_slot_count == 1
    after = project.ragft(*heavy)
    assert after.returncode == 0, after.stdout + after.stderr
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.event_log_storage.get_concurrency_info(HEAVY_POOL).active_slot_count == 0
        assert [run.status for run in instance.get_runs()] == [
            dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS,
        ]  # fmt: skip
    assert list((home / "running").iterdir()) == []


def test_a_run_whose_process_lives_is_left_alone(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(dg.job(name="long")(lambda: None))
        with holding(tmp_path, run.run_id):
            end_dead_runs(instance, tmp_path)
            kept = instance.get_run_by_id(run.run_id)
            assert kept is not None
            assert not kept.is_finished
        assert list((tmp_path / "running").iterdir()) == []
