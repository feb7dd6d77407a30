from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ragft_pipeline.errors import RagftError
from ragft_pipeline.store import Artifact, ArtifactStore, Link


def publish(store: ArtifactStore, action: str, content: str = "") -> Artifact:
    with store.staging("model") as staged:
        (staged / "model").mkdir()
        (staged / "model" / "weights").write_text(content)
        return store.publish(
            "model", action, staged, data_version=content, facts={"n": 1}, inputs={"nodes": "d"}
        )


def link(store: ArtifactStore, version: str, action: str) -> None:
    store.link(Link("model", version, action, "data", "computed", 0.5, {"n": 1}))


def test_a_published_artifact_is_found_as_it_was(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    published = publish(store, "a1", "content")
    assert store.find("model", "a1") == published
    assert published.facts == {"n": 1}
    assert published.inputs == {"nodes": "d"}
    assert (published.model / "weights").read_text() == "content"


def test_two_publishers_of_one_action_agree_on_the_first(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    first = publish(store, "a1", "first")
    second = publish(store, "a1", "second")
    assert second == first
    assert (second.model / "weights").read_text() == "first"


def test_concurrent_publishers_leave_one_whole_artifact(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    found: list[Artifact] = []
    barrier = threading.Barrier(6)

    def run(number: int) -> None:
        barrier.wait()
        found.append(publish(store, "a1", str(number)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len({artifact.data_version for artifact in found}) == 1
    assert (found[0].model / "weights").read_text() == found[0].data_version
    assert list((tmp_path / "staging").iterdir()) == []


def test_what_is_left_in_staging_is_never_visible(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    leftover = tmp_path / "staging" / "model-killed"
    leftover.mkdir(parents=True)
    (leftover / "artifact.json").write_text('{"data_version": "x", "facts": {}, "inputs": {}}')
    assert store.find("model", "killed") is None
    assert store.find("model-killed", "") is None


def test_a_failed_computation_publishes_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)

    def fail() -> None:
        with store.staging("model") as staged:
            (staged / "half").write_text("done")
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="memory"):
        fail()
    assert store.find("model", "a1") is None
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_version_reads_what_it_links(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    publish(store, "a1", "old")
    publish(store, "a2", "new")
    link(store, "v0001", "a1")
    link(store, "v0002", "a2")
    assert store.read("v0001", "model").data_version == "old"
    assert store.read("v0002", "model").data_version == "new"
    link(store, "v0001", "a2")
    assert store.read("v0001", "model").data_version == "new"


def test_a_missing_asset_says_what_to_do(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert store.linked("v0001", "model") is None
    with pytest.raises(RagftError, match="model is missing for v0001"):
        store.read("v0001", "model")
    link(store, "v0001", "gone")
    with pytest.raises(RagftError, match="materialize it first"):
        store.read("v0001", "model")
