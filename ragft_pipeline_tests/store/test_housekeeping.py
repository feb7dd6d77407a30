from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ragft_pipeline.store import ArtifactStore, Link
from ragft_pipeline.store.housekeeping import disk_use, find_garbage, remove
from ragft_pipeline.store.life import at_work
from ragft_pipeline_tests.store.test_rows import Lengths, complete, staged_rows

LATER = time.time() + 2 * 86_400


def publish(store: ArtifactStore, action: str, version: str | None, asset: str = "nodes") -> Path:
    with store.staging(asset) as folder:
        (folder / "data.bin").write_bytes(b"x" * 100)
        store.publish(asset, action, folder, data_version=action, facts={}, inputs={})
    if version:
        store.link(Link(asset, version, action, action, "computed", 0.0))
    return store.artifact_path(asset, action)


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


def test_a_shared_segment_counts_once_and_goes_with_its_last_artifact(tmp_path: Path) -> None:
    store, words = ArtifactStore(tmp_path), [f"{n:03}" for n in range(300)]
    for number, version in enumerate(("v1", "v2", "v3"), 1):
        complete(store, f"a{number}", words, Lengths())
        store.link(Link("words", version, f"a{number}", "d", "computed", 0.0))
    (segment,) = store.artifact_path("words", "a3").glob("*.parquet")
    use = disk_use(store, ["v1"])
    assert segment.stat().st_size < use.by_asset["words"] < 1.5 * segment.stat().st_size
    assert use.by_version["v1"][1] == segment.stat().st_size
    first, second = find_garbage(store, ["v3"], LATER)
    assert max(first.size, second.size) < 200
    remove([first, second])
    assert segment.is_file()
    (last,) = find_garbage(store, [], LATER)
    assert last.size > segment.stat().st_size


def test_what_is_young_is_left_alone(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    publish(store, "a1", None)
    assert find_garbage(store, []) == []


def test_what_a_dead_run_left_in_staging_is_garbage(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    left = tmp_path / "staging" / "nodes-dead"
    left.mkdir(parents=True)
    assert [item.path for item in find_garbage(store, [], LATER)] == [left]


def stage_rows(store: ArtifactStore, name: str, asset: str) -> Path:
    folder = store.root / "staging" / "rows" / name
    folder.mkdir(parents=True)
    (folder / f"{asset}.0123.parquet").write_bytes(b"rows")
    return folder


def test_staged_rows_go_once_their_asset_was_completed_without_them(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    waiting, given_up = (
        stage_rows(store, f"drafts-{n}", a) for n, a in ((1, "pairs"), (2, "nodes"))
    )
    assert find_garbage(store, [], LATER) == [], "a run may pick up either"
    publish(store, "a1", "v1")  # of the asset `nodes`
    os.utime(given_up, (time.time() - 60, time.time() - 60))
    assert [item.path for item in find_garbage(store, ["v1"], LATER)] == [given_up]
    assert find_garbage(store, ["v1"]) == [], "for a day nothing goes"
    month = time.time() + 31 * 86_400
    assert {i.path for i in find_garbage(store, ["v1"], month)} == {waiting, given_up}
    remove(find_garbage(store, ["v1"], LATER))
    assert not given_up.exists()
    assert waiting.is_dir()


def test_rows_that_a_run_asks_for_are_not_given_up(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(RuntimeError, match="memory"):
        complete(store, "a1", ["a", "b", "c"], Lengths(fail_at="c"))
    folder = staged_rows(store)
    publish(store, "a1", "v1", "words")
    age(folder)
    assert [item.path for item in find_garbage(store, ["v1"])] == [folder]
    with pytest.raises(RuntimeError, match="memory"):
        complete(store, "a2", ["a", "c"], Lengths(fail_at="c"))
    assert find_garbage(store, ["v1"]) == []


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


def test_a_run_of_days_keeps_its_workspace_and_what_it_reads(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    read = publish(store, "a1", "v0001-ab")
    with store.staging(at_work("model", "v0001-ab")) as folder:
        assert find_garbage(store, ["v2"], LATER) == []
    assert not folder.exists()
    assert [item.path for item in find_garbage(store, ["v2"], LATER)] == [read]


def test_the_workspace_of_a_killed_run_is_garbage(tmp_path: Path) -> None:
    script = f"""
import os, signal
from ragft_pipeline.store import ArtifactStore
with ArtifactStore({str(tmp_path)!r}).staging("model"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", script], check=False)
    assert run.returncode == -signal.SIGKILL
    store = ArtifactStore(tmp_path)
    assert [i.path.name[:6] for i in find_garbage(store, [], LATER)] == ["model-"]
    assert list((tmp_path / "locks").iterdir()) == []


def test_what_is_looked_at_does_not_count_as_used(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    seen = publish(store, "a1", "v1")
    age(seen, tmp_path / "versions" / "v1")
    found = store.peek("nodes", "a1")
    assert found is not None
    assert store.peek("nodes", "a2") is None
    assert [item.path for item in find_garbage(store, ["v2"])] == [seen]
    assert store.find("nodes", "a1") == found
    assert find_garbage(store, ["v2"]) == []


def test_what_a_killed_clean_up_left_is_garbage(tmp_path: Path) -> None:
    left = tmp_path / "artifacts" / "nodes" / ".removed-a1"
    left.mkdir(parents=True)
    garbage = find_garbage(ArtifactStore(tmp_path), [], LATER)
    assert [item.path for item in garbage] == [left]
    remove(garbage)
    assert not left.exists()
