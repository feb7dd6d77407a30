"""A corpus in a team's own Dagster: as a component, beside others, and from an empty folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

import ragft_pipeline
from ragft_pipeline import Corpus, TunedRetriever
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.defs.component import corpus_named
from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings import load_settings
from ragft_pipeline.starting import all_settings, start_project
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.versions.staleness import states
from ragft_pipeline_tests.conftest import run_command
from ragft_pipeline_tests.corpora import prose, write_corpus

FIRST = ["corpus_snapshot", "chunked_nodes", "train_nodes"]


def corpus(folder: Path, name: str, **given: Any) -> Corpus:
    write_corpus(folder / name / "documents", {f"{n}.md": prose(n) for n in range(3)})
    (folder / name / "ragft.yaml").write_text(
        "store: store\ncorpus: {source: documents}\nautomation: {debounce_seconds: 0}\n"
    )
    file = str(folder / name / "ragft.yaml")
    return Corpus(name, file, key_prefix=[name], **given)


@dg.asset
def orders() -> None:
    """What the host had before, without partitions."""


@pytest.fixture
def host(tmp_path: Path) -> tuple[dg.Definitions, list[Corpus]]:
    """Two corpora beside a foreign asset, under a foreign executor."""
    corpora = [corpus(tmp_path, "handbook", deps=["orders"]), corpus(tmp_path, "tickets")]
    own = dg.Definitions(assets=[orders], executor=dg.multiprocess_executor)
    return dg.Definitions.merge(own, *(one.definitions() for one in corpora)), corpora


def snapshots(one: Corpus) -> SnapshotStore:
    return SnapshotStore(ArtifactStore(one.settings.store))


def freeze(defs: dg.Definitions, one: Corpus, instance: dg.DagsterInstance) -> str:
    """Let a corpus's sensor freeze, and add what it asks for."""
    sensor = defs.resolve_sensor_def(one.named("new_documents"))
    found = sensor(dg.build_sensor_context(instance=instance))
    assert isinstance(found, dg.SensorResult)
    (asked,) = found.dynamic_partitions_requests or []
    assert asked.partitions_def_name == one.named("version")
    instance.add_dynamic_partitions(asked.partitions_def_name, list(asked.partition_keys))
    return asked.partition_keys[0]


def test_two_corpora_share_a_code_location_and_nothing_else(
    host: tuple[dg.Definitions, list[Corpus]],
) -> None:
    defs, (handbook, tickets) = host
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    assert graph.get(dg.AssetKey(["handbook", "corpus_snapshot"])).parent_keys == {orders.key}
    with dg.DagsterInstance.ephemeral() as instance:
        version = freeze(defs, handbook, instance)
        assert snapshots(handbook).versions() == [version]
        assert snapshots(tickets).versions() == []
        syncing = Thread(target=freeze, args=(defs, tickets, instance))
        syncing.start()
        job = defs.resolve_job_def("handbook_version_job")
        run = job.execute_in_process(
            instance=instance,
            partition_key=version,
            asset_selection=[dg.AssetKey(["handbook", name]) for name in FIRST],
        )
        syncing.join()
        assert run.success
        (other,) = snapshots(tickets).versions()
        made = states(version, snapshots(handbook), handbook.settings)
        assert [made[name].split()[0] for name in FIRST] == ["computed"] * 3
        assert set(states(other, snapshots(tickets), tickets.settings).values()) == {"missing"}
        asked = dg.evaluate_automation_conditions(defs=defs, instance=instance)
        requested = {key for key in graph.materializable_asset_keys if asked.get_num_requested(key)}
        assert orders.key not in requested
        assert {key.path[0] for key in requested} == {"handbook", "tickets"}
        assert dg.AssetKey(["tickets", "corpus_snapshot"]) in requested
        assert dg.AssetKey(["handbook", "corpus_snapshot"]) not in requested


def test_jobs_and_automation_reach_a_corpuss_own_assets_only(
    host: tuple[dg.Definitions, list[Corpus]],
) -> None:
    defs, corpora = host
    graph = defs.resolve_asset_graph()
    for one in corpora:
        job = defs.resolve_job_def(one.named("version_job"))
        keys = job.asset_layer.executable_asset_keys
        assert {key.path[0] for key in keys} == {one.name}
        sensor = defs.resolve_sensor_def(one.named("keep_up_to_date"))
        assert sensor.asset_selection is not None
        assert {key.path[0] for key in sensor.asset_selection.resolve(graph)} == {one.name}


def test_a_component_is_scaffolded_and_loads(tmp_path: Path) -> None:
    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.scaffold_component(TunedRetriever, defs_path="handbook")
        assert yaml.safe_load((folder / "defs.yaml").read_text())["attributes"] == {
            "name": "handbook"
        }
        with sandbox.load_component_and_build_defs(defs_path=folder) as (component, defs):
            assert isinstance(component, TunedRetriever)
            assert defs.resolve_sensor_def("handbook_keep_up_to_date")
            keys = defs.resolve_asset_graph().get_all_asset_keys()
            assert dg.AssetKey(["handbook", "champion"]) in keys


def test_attributes_say_what_a_component_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_STORE", str(tmp_path / "elsewhere"))
    attributes = {
        "name": "tickets", "key_prefix": ["support", "tickets"], "settings": "own.yaml",
        "store": "{{ env.TEAM_STORE }}", "deps": ["raw/tickets"], "owners": ["team:search"],
        "automation": False, "pool": "gpu",
    }  # fmt: skip
    with create_defs_folder_sandbox() as sandbox:
        contents = {"type": "ragft_pipeline.TunedRetriever", "attributes": attributes}
        folder = sandbox.scaffold_component(TunedRetriever, defs_yaml_contents=contents)
        (folder / "own.yaml").write_text("corpus: {source: documents}")
        with sandbox.load_component_and_build_defs(defs_path=folder) as (_, defs):
            graph = defs.resolve_asset_graph()
            snapshot = graph.get(dg.AssetKey(["support", "tickets", "corpus_snapshot"]))
            assert snapshot.parent_keys == {dg.AssetKey(["raw", "tickets"])}
            assert list(snapshot.owners) == ["team:search"]
            assert snapshot.automation_condition is None
            trained = graph.get(dg.AssetKey(["support", "tickets", "tuned_embedder"]))
            assert trained.pools == {"gpu"}
            assert [sensor.name for sensor in defs.sensors or []] == ["tickets_follow_status"]
        named = corpus_named("tickets", sandbox.defs_folder_path)
        assert named.settings.store == str(tmp_path / "elsewhere")
        assert named.settings.corpus.source == str(folder / "documents")
        with pytest.raises(RagftError, match=r"names a corpus 'wiki'; there are: tickets"):
            corpus_named("wiki", sandbox.defs_folder_path)
        (folder.parent / "again").mkdir()
        (folder.parent / "again" / "defs.yaml").write_text((folder / "defs.yaml").read_text())
        with pytest.raises(RagftError, match="several corpora are named 'tickets'"):
            corpus_named("tickets", sandbox.defs_folder_path)
        wrong = "type: ragft_pipeline.TunedRetriever\nattributes: {name: wiki, pol: gpu}\n"
        (folder.parent / "again" / "defs.yaml").write_text(wrong)
        with pytest.raises(RagftError, match=r"again/defs\.yaml: .*pol"):
            corpus_named("wiki", sandbox.defs_folder_path)


def test_the_component_is_found_without_anything_heavy() -> None:
    program = (
        "import sys\n"
        "from dagster.components.core.package_entry import discover_entry_point_package_objects\n"
        "found = {key.to_typename() for key in discover_entry_point_package_objects()}\n"
        "assert 'ragft_pipeline.TunedRetriever' in found, found\n"
        "heavy = {'torch', 'transformers', 'pyarrow', 'duckdb', 'scipy', 'llama_index'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_a_wrong_name_or_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(RagftError, match="letters, digits and underscores"):
        Corpus("hand-book", "")
    with pytest.raises(RagftError, match=r"nowhere\.yaml does not exist"):
        Corpus("handbook", str(tmp_path / "nowhere.yaml"))
    assert set(ragft_pipeline.__all__) <= set(dir(ragft_pipeline))


def test_paths_of_a_settings_file_are_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "ragft.yaml").write_text(
        "store: s3://bucket/x\ncorpus: {source: docs}\n"
        "questions: {generators: [{kind: extractive}, {kind: log, path: log.jsonl}]}\n"
        "chats: {mixes: [{path: /style.jsonl}]}\n"
    )
    settings = load_settings(tmp_path / "ragft.yaml")
    assert settings.store == "s3://bucket/x"
    assert settings.corpus.source == str(tmp_path / "docs")
    assert settings.questions.generators[1].path == str(tmp_path / "log.jsonl")  # type: ignore[union-attr]
    assert settings.chats.mixes[0].path == "/style.jsonl"


def test_a_project_starts_in_an_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    first = run_command(["init", str(folder)], {})
    assert first.returncode == 0, first.stderr
    assert "put documents into" in first.stdout
    write_corpus(folder / "documents", {f"{n}.md": prose(n) for n in range(3)})
    (folder / "ragft.yaml").write_text((folder / "ragft.yaml").read_text() + "# mine\n")
    again = run_command(["init", str(folder)], {})
    assert again.returncode == 0, again.stderr
    assert (folder / "ragft.yaml").read_text().endswith("# mine\n")
    assert len(list((folder / ".ragft" / "snapshots").glob("v0001-*"))) == 1


def test_a_started_project_has_the_defaults(tmp_path: Path) -> None:
    start_project(tmp_path, "s3://bucket/documents")
    short = load_settings(tmp_path / "ragft.yaml").model_dump()
    (tmp_path / "ragft.yaml").write_text(all_settings())
    whole = load_settings(tmp_path / "ragft.yaml").model_dump()
    for section in (short, whole):
        section.pop("corpus")
    assert short == whole
