from __future__ import annotations

import time
from pathlib import Path

from ragft_pipeline.store import ArtifactStore, Link
from ragft_pipeline.store.housekeeping import find_garbage, remove

LATER = time.time() + 7200


def publish(store: ArtifactStore, action: str, version: str | None) -> Path:
    with store.staging("nodes") as folder:
        (folder / "data.bin").write_bytes(b"x" * 100)
        store.publish("nodes", action, folder, data_version=action, facts={}, inputs={})
    if version:
        store.link(Link("nodes", version, action, action, "computed", 0.0))
    return store.artifact_path("nodes", action)


def test_only_what_no_kept_version_links_is_garbage(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    old, new = publish(store, "a1", "v1"), publish(store, "a2", "v2")
    loose = publish(store, "a3", None)
    assert {item.path for item in find_garbage(store, ["v2"], LATER)} == {old, loose}
    assert {item.path for item in find_garbage(store, ["v1", "v2"], LATER)} == {loose}
    freed = remove(find_garbage(store, ["v2"], LATER))
    assert freed > 200
    assert new.is_dir()
    assert not old.exists()
    assert store.find("nodes", "a1") is None


def test_what_is_young_is_left_alone(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    publish(store, "a1", None)
    assert find_garbage(store, []) == []


def test_what_a_dead_run_left_in_staging_is_garbage_but_not_its_rows(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    left = tmp_path / "staging" / "nodes-dead"
    rows = tmp_path / "staging" / "rows" / "vectors-1"
    for folder in (left, rows):
        folder.mkdir(parents=True)
    assert [item.path for item in find_garbage(store, [], LATER)] == [left]
