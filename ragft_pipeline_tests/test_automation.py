"""Following the documents: the sensor, the condition, and what they leave alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ragft_pipeline.corpus import watching
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.corpus.sources import open_source
from ragft_pipeline.corpus.watching import Watch, listing_digest
from ragft_pipeline.defs import conditions
from ragft_pipeline.defs.assets import ASSETS
from ragft_pipeline.defs.policy import build_asset
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.settings import load_settings
from ragft_pipeline.versions.staleness import FRESH, out_of_date, states
from ragft_pipeline_tests.conftest import VERSIONS, Project, make_project

Tick = Callable[[dg.DagsterInstance, str | None], dg.SensorResult | dg.SkipReason]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = make_project(tmp_path, documents=12)
    project.configure(
        questions={"generators": [{"kind": "extractive"}]}, automation={"debounce_seconds": 0}
    )
    return project


@pytest.fixture
def tick(project: Project) -> Tick:
    """Evaluate the sensor that freezes."""
    new_documents = project.bound.definitions().resolve_sensor_def("corpus_new_documents")

    def once(instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult | dg.SkipReason:
        result = new_documents(dg.build_sensor_context(instance=instance, cursor=cursor))
        assert isinstance(result, dg.SensorResult | dg.SkipReason)
        return result

    return once


def test_sensor_freezes_a_change_once(project: Project, tick: Tick) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first = tick(instance, None)
        assert isinstance(first, dg.SensorResult)
        assert [v.partition_keys for v in first.dynamic_partitions_requests or []] == [
            project.snapshots.versions()
        ]
        assert isinstance(tick(instance, first.cursor), dg.SkipReason)
        file = next((project.corpus / "docs").rglob("*.md"))
        file.unlink()
        second = tick(instance, first.cursor)
        assert isinstance(second, dg.SensorResult)
        assert len(project.snapshots.versions()) == 2


@pytest.mark.parametrize(
    "corpus",
    [{"encodings": ["utf-8", "cp1252"]}, {"max_text_mb": 0.05}, {"max_file_mb": 0.05}],
    ids=lambda corpus: next(iter(corpus)),
)
def test_sensor_freezes_again_when_documents_are_read_otherwise(
    project: Project, tick: Tick, corpus: dict[str, Any]
) -> None:
    (project.corpus / "docs" / "umlauts.txt").write_bytes("Größe und Öl. ".encode("cp1252") * 9)
    (project.corpus / "docs" / "long.txt").write_text("A long text. " * 5000, encoding="utf-8")
    with dg.DagsterInstance.ephemeral() as instance:
        first = tick(instance, None)
        project.configure(
            corpus={"source": str(project.corpus), **corpus}, automation={"debounce_seconds": 0}
        )
        assert isinstance(tick(instance, first.cursor), dg.SensorResult)
    assert len(project.snapshots.versions()) == 2


def test_rights_and_readers_are_a_reason_to_look(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest() -> str:
        return listing_digest(open_source(project.settings.corpus), project.settings.corpus)

    before = digest()
    next((project.corpus / "docs").rglob("*.md")).chmod(0o200)
    unreadable = digest()
    monkeypatch.setattr(watching, "READER_VERSION", 99)
    assert len({before, unreadable, digest()}) == 3


def test_sensor_returns_to_the_old_version_when_the_documents_do(
    project: Project, tick: Tick
) -> None:
    file = next((project.corpus / "docs").rglob("*.md"))
    text = file.read_text(encoding="utf-8")
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = tick(instance, None).cursor  # type: ignore[union-attr]
        file.write_text(text + "\nOne more line.\n", encoding="utf-8")
        cursor = tick(instance, cursor).cursor  # type: ignore[union-attr]
        file.write_text(text, encoding="utf-8")
        third = tick(instance, cursor)
    assert isinstance(third, dg.SensorResult)
    assert third.dynamic_partitions_requests[0].partition_keys == project.snapshots.versions()[:1]  # type: ignore[index]


def test_sensor_says_why_an_empty_corpus_is_not_frozen(project: Project, tick: Tick) -> None:
    for file in (project.corpus / "docs").rglob("*.*"):
        file.unlink()
    with dg.DagsterInstance.ephemeral() as instance:
        result = tick(instance, None)
    assert isinstance(result, dg.SkipReason)
    assert "no readable document" in (result.skip_message or "")


def test_folder_still_changing_is_not_frozen() -> None:
    watch, ripe = Watch().see("a", now=100, debounce=30)
    assert not ripe
    watch, ripe = watch.see("b", now=125, debounce=30)
    assert not ripe
    watch, ripe = watch.see("b", now=160, debounce=30)
    assert ripe
    assert not watch.froze().see("b", now=400, debounce=30)[1]


def test_condition_requests_a_new_version_whole_and_a_fresh_one_not_at_all(
    finished: Project,
) -> None:
    defs = finished.bound.definitions()
    version = finished.snapshots.versions()[-1]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [version])
        fresh = dg.evaluate_automation_conditions(defs=defs, instance=instance)
        assert fresh.total_requested == 0


def test_an_asset_that_is_finished_during_a_tick_is_not_asked_for_again(
    copied: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = copied.snapshots.versions()[-1]
    link = copied.store.root / "versions" / version / "reranker.json"
    finished = link.read_bytes()
    link.unlink()

    def then_it_is_there(*arguments: Any) -> dict[str, str]:
        found = states(*arguments)
        link.write_bytes(finished)
        return found

    monkeypatch.setattr(conditions, "states", then_it_is_there)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [version])
        result = dg.evaluate_automation_conditions(copied.bound.definitions(), instance)
        assert result.total_requested == 0
    assert states(version, copied.snapshots, copied.settings)["reranker"] in FRESH


def test_condition_asks_for_what_a_setting_made_stale_and_what_follows(
    copied: Project,
) -> None:
    copied.configure(adapter={"checkpoints": 2, "seed": 99})
    settings = load_settings(copied.settings_file)
    snapshots = SnapshotStore(copied.store)
    state = states(snapshots.versions()[-1], snapshots, settings)
    assert out_of_date(state) == {
        "embedding_adapter", "stacked_adapter", "retrieval_eval", "refit_models",
        "query_router", "router_eval", "llm_eval", "eval_report", "champion",
        "answering_report", "published_index",
    }  # fmt: skip


def test_condition_requests_every_asset_of_a_version_never_materialized(project: Project) -> None:
    defs = project.bound.definitions()
    version = project.snapshots.freeze(project.settings).version
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [version])
        result = dg.evaluate_automation_conditions(defs=defs, instance=instance)
        assert result.total_requested == len(defs.resolve_asset_graph().materializable_asset_keys)


def test_a_failed_asset_is_asked_for_again_once_the_settings_are_corrected(
    project: Project,
) -> None:
    made = [build_asset(project.bound, shown) for shown in ASSETS[:2]]
    model = project.folder / "model"
    project.configure(embedder={"model": str(model)})  # a folder that is not there
    version = project.snapshots.freeze(project.settings).version
    nodes = dg.AssetKey("chunked_nodes")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [version])

        def evaluate(before: Any = None) -> Any:
            cursor = before.cursor if before else None
            return dg.evaluate_automation_conditions(made, instance, cursor=cursor)

        asked = evaluate()
        assert asked.get_num_requested(nodes) == 1
        run = dg.materialize(made, instance=instance, partition_key=version, raise_on_error=False)
        assert not run.success
        failed = evaluate(asked)
        assert failed.get_num_requested(nodes) == 0
        assert evaluate(failed).get_num_requested(nodes) == 0
        shutil.copytree(resolve_weights("embedded:all-minilm-l6-v2").folder, model)
        assert evaluate(failed).get_num_requested(nodes) == 1, "the folder is there"
        shutil.rmtree(model)
        project.configure(embedder={"model": "embedded:all-minilm-l6-v2"})
        assert evaluate(failed).get_num_requested(nodes) == 1, "ragft.yaml was corrected"
