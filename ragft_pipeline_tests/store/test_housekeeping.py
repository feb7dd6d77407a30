from __future__ import annotations

import os
import time
from pathlib import Path

from ragft_pipeline.store import ArtifactStore, Link
from ragft_pipeline.store.housekeeping import find_garbage, remove

LATER = time.time() + 2 * 86_400


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


def age(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (0, 0))


def test_what_a_version_at_work_links_is_left_alone(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    early = publish(store, "a1", "v1")  # hours ago; the run for v1 is still training a model
    age(early)
    assert find_garbage(store, ["v2"]) == []
    age(tmp_path / "versions" / "v1")
    assert [item.path for item in find_garbage(store, ["v2"])] == [early]


def test_what_is_used_meanwhile_is_left_alone(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    loose = publish(store, "a1", None)
    age(loose)
    garbage = find_garbage(store, [])
    assert [item.path for item in garbage] == [loose]
    assert store.find("nodes", "a1") is not None
    assert remove(garbage) == 0
    assert loose.is_dir()


def test_two_clean_ups_at_once_do_not_trip_over_each_other(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    age(publish(store, "a1", None))
    first, second = find_garbage(store, []), find_garbage(store, [])
    assert remove(first) > 0
    assert remove(second) == 0


def test_a_long_computation_keeps_its_staging(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with store.staging("model") as folder:
        (folder / "model").mkdir()
        (folder / "model" / "step").write_text("now")
        age(folder, folder / "model")
        assert find_garbage(store, []) == []


def test_what_a_killed_clean_up_left_is_garbage(tmp_path: Path) -> None:
    left = tmp_path / "artifacts" / "nodes" / ".removed-a1"
    left.mkdir(parents=True)
    garbage = find_garbage(ArtifactStore(tmp_path), [], LATER)
    assert [item.path for item in garbage] == [left]
    remove(garbage)
    assert not left.exists()
