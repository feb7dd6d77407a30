"""deploy/dagster.yaml on a real PostgreSQL: what one machine does, all see."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import dagster as dg
import pytest
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage

from ragft_pipeline.definitions import defs
from ragft_pipeline_tests.conftest import VERSIONS
from ragft_pipeline_tests.deploy.conftest import Machine, Team
from ragft_pipeline_tests.deploy.postgres import Postgres

LIGHT = ("corpus_snapshot", "chunked_nodes", "train_nodes", "val_nodes", "test_nodes")
RACES = 2


def arguments(version: str) -> tuple[str, ...]:
    """Return those of a run of the light assets of a version."""
    return ("run", "--version", version, "--assets", ",".join(LIGHT))


def materialize(machine: Machine, version: str) -> subprocess.Popen[str]:
    """Begin a run of the light assets of a version on a machine."""
    return machine.start("python", "-m", "ragft_pipeline.cli", *arguments(version))


def freeze(machine: Machine) -> str:
    frozen = machine.ragft("freeze")
    assert frozen.returncode == 0, frozen.stderr
    return frozen.stdout.splitlines()[-1]


def data_versions(machine: Machine, version: str) -> dict[str, str]:
    """Return what Dagster has recorded for a version, by asset."""
    found = {}
    with machine.instance() as instance:
        for asset in LIGHT:
            records = instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[version]), 1
            ).records
            if records and (event := records[0].asset_materialization):
                found[asset] = (event.tags or {})["dagster/data_version"]
    return found


def recorded(team: Team, version: str) -> dict[str, str]:
    """Return the data versions of what the store holds, as Dagster should have them."""
    return {asset: team.project.artifact(asset, version).data_version for asset in LIGHT}


def test_the_file_is_a_team_s_instance(team: Team) -> None:
    with team.first.instance() as instance:
        assert isinstance(instance.run_storage, PostgresRunStorage)
        assert isinstance(instance.event_log_storage, PostgresEventLogStorage)
        assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
        limits = instance.get_concurrency_config()
        assert limits.pool_config.default_pool_limit == 1
        assert limits.run_queue_config is not None
        assert limits.run_queue_config.max_concurrent_runs > 1
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds
        assert instance.run_retries_enabled
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert not instance.telemetry_enabled
        assert team.first.environment["PGPASSWORD"] not in repr(instance.get_ref())


@pytest.mark.slow
def test_two_machines_make_the_tables_at_the_same_moment(team: Team) -> None:
    opening = [
        machine.start("python", "-c", "import dagster; dagster.DagsterInstance.get().dispose()")
        for machine in team.machines
    ]
    for process in opening:
        assert process.wait(timeout=120) == 0, process.communicate()[1]
    assert freeze(team.first)


def test_another_machine_reads_what_a_run_recorded(team: Team) -> None:
    version = freeze(team.first)
    run = team.first.ragft(*arguments(version))
    assert run.returncode == 0, run.stdout + run.stderr
    assert data_versions(team.machines[1], version) == recorded(team, version)
    with team.machines[1].instance() as instance:
        assert instance.get_dynamic_partitions(VERSIONS) == [version]
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS]
    assert not list(team.project.folder.rglob("*.db"))  # nothing beside PostgreSQL


@pytest.mark.slow
def test_machines_materialize_different_versions_at_once(team: Team) -> None:
    for number in range(RACES):
        versions = []
        for machine in team.machines:
            team.write(f"{machine.home} {number}")
            versions.append(freeze(machine))
        runs = [materialize(*pair) for pair in zip(team.machines, versions)]
        for run in runs:
            said, wrong = run.communicate(timeout=300)
            assert run.returncode == 0, said + wrong
        for version in versions:
            assert data_versions(team.first, version) == recorded(team, version)
    with team.first.instance() as instance:
        partitions = instance.get_dynamic_partitions(VERSIONS)
        assert sorted(partitions) == sorted(team.project.snapshots.versions())
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}


def test_each_machine_has_its_own_pool_for_heavy_work(team: Team) -> None:
    for machine in team.machines:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in machine.environment.items():
                patch.setenv(name, value)
            trained = defs().resolve_asset_graph().get(dg.AssetKey("tuned_embedder"))
        assert trained.pools == {machine.environment["RAGFT_HEAVY_POOL"]}


def wait_for(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if text in line:
            return said
    raise AssertionError("".join(said) + process.communicate()[1])


@pytest.mark.slow
def test_a_run_outlasts_a_restart_of_the_database(team: Team, postgres: Postgres) -> None:
    version = freeze(team.first)
    run = materialize(team.first, version)
    wait_for(run, "corpus_snapshot: computing")
    postgres.stop()
    postgres.start()
    said, wrong = run.communicate(timeout=300)
    assert run.returncode == 0, said + wrong
    assert data_versions(team.first, version) == recorded(team, version)


def assert_named(code: int | None, said: str, wrong: str, team: Team) -> None:
    assert code == 1
    last = wrong.splitlines()[-1]
    assert re.match(r"ragft: Dagster's storage \(.*dagster\.yaml\): .*onnection", last)
    assert "Traceback" not in wrong
    assert team.first.environment["PGPASSWORD"] not in said + wrong


def test_a_database_that_is_not_there_is_named_in_one_line(
    team: Team, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagster_postgres.utils.calculate_delay", lambda **_: 0.0)
    postgres.stop()
    try:
        refused = team.first.ragft("freeze")
    finally:
        postgres.start()
    assert_named(refused.returncode, refused.stdout, refused.stderr, team)
    assert freeze(team.first)


@pytest.mark.slow
def test_a_database_that_goes_during_a_run_is_named_in_one_line(
    team: Team, postgres: Postgres
) -> None:
    version = freeze(team.first)
    run = materialize(team.first, version)
    wait_for(run, "corpus_snapshot: computing")
    postgres.stop()
    try:
        cut = run.communicate(timeout=300)
        refused = team.first.ragft("freeze")
    finally:
        postgres.start()
    assert_named(run.returncode, *cut, team)
    assert_named(refused.returncode, refused.stdout, refused.stderr, team)
    again = team.first.ragft(*arguments(version))
    assert again.returncode == 0, again.stdout + again.stderr
    with team.first.instance() as instance:
        assert [run.is_finished for run in instance.get_runs()] == [True, True]
    assert list(Path(team.first.home, "running").iterdir()) == []
