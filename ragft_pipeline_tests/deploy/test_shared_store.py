"""Machines with one store on S3 and one PostgreSQL; RAGFT_ROUNDS=20 for the long run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests import s3_server
from ragft_pipeline_tests.conftest import Project
from ragft_pipeline_tests.corpora import prose, write_corpus
from ragft_pipeline_tests.deploy.conftest import Machine, Team

ROUNDS = int(os.environ.get("RAGFT_ROUNDS", "1"))
DATA = (
    "corpus_snapshot", "chunked_nodes", "train_nodes", "val_nodes", "test_nodes",
    "gold_questions", "corpus_statistics", "node_embeddings", "train_qa_pairs", "val_qa_pairs",
    "passage_context", "teacher_scores",
)  # fmt: skip


@pytest.fixture
def bucket(s3: s3_server.S3Server, tmp_path: Path) -> Iterator[s3_server.Team]:
    with s3_server.make_team(s3, tmp_path / "caches") as made:
        yield made


def with_documents_of_its_own(machine: Machine, bucket: s3_server.Team) -> Machine:
    """Return the machine with a corpus and a cache of its own, on the store in the bucket."""
    project = Project(machine.home.parent / "project")
    write(project, machine, 0)
    project.configure(
        store=bucket.url, questions={"generators": [{"kind": "extractive"}]}, compute={"threads": 1}
    )
    environment = {
        "RAGFT_SETTINGS": str(project.settings_file),
        "RAGFT_CACHE": str(machine.home.parent / "cache"),
    }
    return replace(machine, environment={**machine.environment, **environment})


def write(project: Project, machine: Machine, number: int) -> None:
    shutil.rmtree(project.corpus, ignore_errors=True)
    texts = {f"{n}.md": prose(f"{machine.home.parent.name} {n}") for n in range(3)}
    texts["latest.md"] = prose(f"{machine.home.parent.name} round {number}")
    write_corpus(project.corpus, texts)


@pytest.mark.slow
def test_different_versions_are_materialized_at_once(team: Team, bucket: s3_server.Team) -> None:
    machines = [with_documents_of_its_own(machine, bucket) for machine in team.machines]
    for number in range(ROUNDS):
        for machine in machines:
            write(Project(machine.home.parent / "project"), machine, number)
        runs = [
            machine.start("python", "-m", "ragft_pipeline.cli", "run", "--assets", ",".join(DATA))
            for machine in machines
        ]
        for run in runs:
            said, wrong = run.communicate(timeout=600)
            assert run.returncode == 0, said + wrong
    store: ArtifactStore = bucket.machine("a third one")  # nothing of it is in a cache
    versions = SnapshotStore(store).versions()
    assert len(versions) == 2 * ROUNDS
    with machines[0].instance() as instance:
        assert [run.status for run in instance.get_runs()] == (
            [dg.DagsterRunStatus.SUCCESS] * 2 * ROUNDS
        )
        for version in versions:
            for asset in DATA:
                artifact = store.read(version, asset)  # its digests are right
                recorded = instance.fetch_materializations(
                    dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[version]), 1
                ).records
                assert (event := recorded[0].asset_materialization)
                assert (event.tags or {})["dagster/data_version"] == artifact.data_version
