"""Clean-ups of object storage: what is needed or in use stays, the rest goes by manifest."""

from __future__ import annotations

import time

import pytest

from ragft_pipeline.release.housekeeping import clean_up
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.housekeeping import disk_use
from ragft_pipeline.store.withdrawal import find_unneeded, withdraw
from ragft_pipeline_tests.s3_server import Team
from ragft_pipeline_tests.store.test_artifacts import link, publish

LATER = time.time() + 2 * 86_400


def names(store: ArtifactStore, *needed: str) -> list[str]:
    assert store.publications is not None
    return [item.name for item in find_unneeded(store, store.publications, needed, LATER)]


def sweep(store: ArtifactStore, *needed: str) -> None:
    assert store.publications is not None
    found = find_unneeded(store, store.publications, needed, LATER)
    withdraw(store, store.publications, found, LATER)


def test_what_is_not_needed_goes_with_the_objects_that_it_alone_named(team: Team) -> None:
    store = team.machine("a")
    for action, content in (("a1", "old"), ("a2", "new"), ("a3", "new")):
        publish(store, action, content)
    before = len(team.objects("objects"))
    assert names(store, "artifacts/model/a2") == ["artifacts/model/a1", "artifacts/model/a3"]
    sweep(store, "artifacts/model/a2")
    assert [n for n in team.objects("artifacts") if n.endswith(".json")] == [
        "artifacts/model/a2.json"
    ]
    assert len(team.objects("objects")) == before - 3  # two cards, and what a1 alone held
    other = team.machine("b")
    assert other.find("model", "a1") is None
    kept = other.find("model", "a2")
    assert kept is not None
    assert (kept.model / "weights").read_text() == "new"


def test_what_was_used_in_the_last_day_stays(team: Team) -> None:
    store = team.machine("a")
    publish(store, "a1", "content")
    assert list(clean_up(store, set(), delete=True)) == []
    assert team.machine("b").find("model", "a1") is not None


def test_what_is_looked_at_does_not_count_as_used(team: Team) -> None:
    publish(team.machine("a"), "a1", "content")
    other = team.machine("b")
    seen = other.peek("model", "a1")
    assert seen is not None
    assert other.peek("model", "a2") is None
    assert not [name for name in team.objects("artifacts") if name.endswith(".used")]
    assert (seen.model / "weights").read_text() == "content"
    sweep(other)
    assert team.machine("c").peek("model", "a1") is None


def test_objects_that_a_dead_publication_left_go(team: Team) -> None:
    store = team.machine("a")
    assert store.publications is not None
    with store.staging("model") as staged:
        (staged / "artifact.json").write_text("{}")
        store.publications.upload(staged, "artifact.json")
    assert names(store) == ["objects"]
    sweep(store)
    assert team.objects("objects") == []


def test_a_use_between_the_look_and_the_removal_keeps_an_artifact(team: Team) -> None:
    store = team.machine("a")
    publish(store, "a1", "content")
    assert store.publications is not None
    found = find_unneeded(store, store.publications, [], LATER)
    withdraw(store, store.publications, found)  # by now, it was used a moment ago
    assert team.machine("b").find("model", "a1") is not None


def test_frozen_documents_and_versions_stay(team: Team) -> None:
    from ragft_pipeline_tests.corpus.test_chain import Machine

    machine = Machine(team, "a")
    version = machine.freeze().version
    sweep(machine.snapshots.store)
    other = Machine(team, "b")
    assert other.texts(version) == machine.texts(version)


def test_the_use_of_the_disk_is_told_without_fetching(team: Team) -> None:
    here, there = team.machine("a"), team.machine("b")
    publish(here, "a1", "x" * 5000)
    link(here, "v1", "a1")
    link(here, "v2", "a1")
    publish(here, "a2", "y" * 3000)
    link(here, "v2", "a2")
    use = disk_use(there, ["v1", "v2"])
    assert use.total > 8000
    assert use.by_asset["model"] > 8000
    assert use.by_version["v2"][0] > 3000
    assert not (there.root / "artifacts").exists()


@pytest.mark.parametrize("delete", [False, True])
def test_this_machines_copies_are_named_by_their_paths(team: Team, delete: bool) -> None:
    import os

    store = team.machine("a")
    publish(store, "a1", "content")
    os.utime(store.artifact_path("model", "a1"), (0, 0))
    assert [name for _, name in clean_up(store, set(), delete)] == ["artifacts/model/a1"]
    assert store.artifact_path("model", "a1").exists() != delete
    found = store.find("model", "a1")  # it is still published
    assert found is not None
    assert (found.model / "weights").read_text() == "content"
