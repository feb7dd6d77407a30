"""Folders on object storage: published whole or not at all, fetched as they were."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa
import pytest

from ragft_pipeline.errors import RagftError
from ragft_pipeline.store import Artifact, ArtifactStore, publications
from ragft_pipeline.store.publications import LEASE_SECONDS
from ragft_pipeline.store.tables import Splice
from ragft_pipeline_tests.s3_server import Team
from ragft_pipeline_tests.store.test_artifacts import link, publish
from ragft_pipeline_tests.store.test_rows import Lengths, complete
from ragft_pipeline_tests.store.test_tables import LAYOUT, rows_of

_PUBLISH = """
import sys
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.store.test_rows import Lengths, complete
store = ArtifactStore(sys.argv[1])
lengths = Lengths()
complete(store, "a1", list("abcdef"), lengths)
"""


def publish_files(store: ArtifactStore, action: str, files: dict[str, bytes]) -> Artifact:
    with store.staging("model") as staged:
        for name, data in files.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_bytes(data)
        return store.publish("model", action, staged, data_version="d", facts={}, inputs={})


def test_another_machine_finds_an_artifact_as_it_was(team: Team) -> None:
    made = publish(team.machine("a"), "a1", "content")
    found = team.machine("b").find("model", "a1")
    assert found is not None
    assert found.folder != made.folder
    assert (found.data_version, found.facts, found.inputs) == ("content", {"n": 1}, {"nodes": "d"})
    assert not found.folder.exists()  # nobody has asked for its files
    assert (found.model / "weights").read_text() == "content"
    assert sorted(path.name for path in found.path.iterdir()) == ["artifact.json", "model"]


def test_a_version_links_across_machines(team: Team) -> None:
    here, there = team.machine("a"), team.machine("b")
    publish(here, "a1", "old")
    link(here, "v1", "a1")
    assert there.read("v1", "model").data_version == "old"
    publish(there, "a2", "new")
    link(there, "v1", "a2")
    assert here.links("v1")["model"].action == "a2"
    assert here.read("v1", "model").data_version == "new"
    assert here.linked("v2", "model") is None
    assert here.links("v2") == {}


def test_two_machines_that_publish_one_action_agree_on_the_first(team: Team) -> None:
    first = publish(team.machine("a"), "a1", "first")
    second = publish(team.machine("b"), "a1", "second")
    assert second.data_version == first.data_version == "first"
    assert (second.model / "weights").read_text() == "first"
    assert not list((team.machine("b").root / "staging").iterdir())


def test_a_file_of_many_artifacts_is_kept_once(team: Team) -> None:
    store = team.machine("a")
    for action in ("a1", "a2"):
        publish_files(store, action, {"model/large": b"x" * 2_000_000, "note": action.encode()})
    puts = [path for method, path in team.server.asked if method == "PUT" and "/objects/" in path]
    assert len(team.objects("objects")) == 5  # the large one, two notes, two cards
    assert len(puts) == 5


def test_an_edit_moves_the_segments_that_it_wrote(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publications, "_SMALL", 0)
    here, there = team.machine("a"), team.machine("b")

    def publish_table(action: str, table: pa.Table | Splice) -> None:
        with here.staging("nodes") as folder:
            LAYOUT.write(table, folder / "nodes.parquet")
            here.publish("nodes", action, folder, data_version=action, facts={}, inputs={})

    def moved(method: str) -> int:
        found = [one for one, path in team.server.asked if one == method and "/objects/" in path]
        team.server.asked.clear()
        return len(found)

    docs = {f"{n:03}": 3 for n in range(100)}
    publish_table("a1", rows_of(docs))
    first = there.find("nodes", "a1")
    assert first is not None
    assert first.table().equals(rows_of(docs))
    assert moved("PUT") > 10
    base = here.artifact_path("nodes", "a1") / "nodes.parquet"
    publish_table("a2", Splice(base, pa.array(["050"]), rows_of({"050": 5})))
    assert moved("PUT") <= 4  # three segments at most, and what the artifact says of itself
    second = there.find("nodes", "a2")
    assert second is not None
    assert second.table().equals(rows_of({**docs, "050": 5}))
    assert moved("GET") <= 4


@pytest.mark.parametrize("place", ["objects", "artifacts"])
@pytest.mark.parametrize("done", [False, True])
def test_a_kill_during_publication_leaves_nothing_half_visible(
    team: Team, place: str, done: bool
) -> None:
    """The process dies at the first object, or at the manifest: just before, or just after."""
    process = team.process("a", _PUBLISH)

    def kill(method: str, path: str) -> int | None:
        if method == "PUT" and f"/{place}/" in path:
            process.kill()
            process.wait()
            return None if done else 503
        return None

    team.server.fault = kill
    assert process.wait(timeout=60) != 0
    process.communicate()
    team.server.heal()
    other = team.machine("b").find("words", "a1")
    assert (other is not None) == (done and place == "artifacts")
    if other is not None:
        assert other.path.is_dir()
    lengths = Lengths()
    complete(team.machine("a"), "a1", list("abcdef"), lengths)
    assert lengths.asked == []  # what was computed before the kill was staged, or published
    found = team.machine("b").find("words", "a1")
    assert found is not None
    assert sum(1 for _ in found.path.glob("lengths-*.parquet")) == 1


def test_an_object_that_is_damaged_on_its_way_is_fetched_again(team: Team) -> None:
    publish(team.machine("a"), "a1", "content")
    damage = [1]

    def flip(method: str, path: str, body: bytes) -> bytes:
        if method == "GET" and "/objects/" in path and damage and b"content" in body:
            damage.pop()
            return body[:-1] + b"?"
        return body

    team.server.mangle = flip
    found = team.machine("b").find("model", "a1")
    assert found is not None
    assert (found.model / "weights").read_text() == "content"
    assert not damage


@pytest.mark.parametrize("bad", [b"", b"conten", b"CONTENT"])
def test_an_object_that_is_damaged_for_good_is_one_line(team: Team, bad: bytes) -> None:
    publish(team.machine("a"), "a1", "content")
    (name,) = (name for name in team.objects("objects") if team.read(name) == b"content")
    team.overwrite(name, bad)
    store = team.machine("b")
    found = store.find("model", "a1")
    assert found is not None
    with pytest.raises(RagftError, match=f"{name} is damaged") as caught:
        _ = found.path
    assert "\n" not in str(caught.value)
    assert not found.folder.exists()
    assert not list((store.root / "staging").iterdir())


def test_an_object_that_is_missing_is_one_line(team: Team) -> None:
    publish(team.machine("a"), "a1", "content")
    (name,) = (name for name in team.objects("objects") if team.read(name) == b"content")
    team.remove(name)
    found = team.machine("b").find("model", "a1")
    assert found is not None
    with pytest.raises(RagftError, match=f"{name} is missing"):
        _ = found.path


def test_a_manifest_cannot_write_outside_the_cache(team: Team) -> None:
    publish(team.machine("a"), "a1", "content")
    name = "artifacts/model/a1.json"
    team.overwrite(name, team.read(name).replace(b"model/weights", b"../../weights"))
    with pytest.raises(RagftError, match="damaged"):
        team.machine("b").find("model", "a1")
    assert not list(team.folder.rglob("weights.*"))


def age(store: ArtifactStore) -> None:
    """Let this machine's leases be over."""
    for lease in store.root.rglob("leases/**/*.json"):
        old = time.time() - LEASE_SECONDS - 1
        os.utime(lease, (old, old))


def test_what_was_taken_away_is_published_again_by_a_machine_that_uses_it(team: Team) -> None:
    store = team.machine("a")
    publish(store, "a1", "content")
    for name in team.objects():
        if name != "store.json":
            team.remove(name)
    age(store)
    assert store.find("model", "a1") is not None
    found = team.machine("b").find("model", "a1")
    assert found is not None
    assert (found.model / "weights").read_text() == "content"


def test_a_copy_of_what_was_made_anew_elsewhere_is_replaced(team: Team) -> None:
    store = team.machine("a")
    publish(store, "a1", "first")
    team.remove("artifacts/model/a1.json")
    publish(team.machine("b"), "a1", "second")
    age(store)
    found = store.find("model", "a1")
    assert found is not None
    assert (found.model / "weights").read_text() == "second"


def test_what_is_here_is_asked_for_no_more(team: Team) -> None:
    store = team.machine("a")
    publish(store, "a1", "content")
    team.server.asked.clear()
    found = store.find("model", "a1")
    assert found is not None
    assert (found.model / "weights").is_file()
    assert team.server.asked == []


def test_another_machine_reuses_rows(team: Team) -> None:
    lengths = Lengths()
    complete(team.machine("a"), "a1", ["a", "bb"], lengths)
    complete(team.machine("a"), "a2", ["bb", "ccc"], lengths)
    result = complete(team.machine("b"), "a3", ["a", "bb", "ccc", "dddd"], lengths)
    assert result == {"a": 1, "bb": 2, "ccc": 3, "dddd": 4}
    assert lengths.asked == ["a", "bb", "ccc", "dddd"]
    complete(team.machine("c"), "a4", ["a", "dddd"], lengths, asset="words")
    complete(team.machine("c"), "b1", ["a"], lengths, asset="other_words", family="*words")
    assert lengths.asked == ["a", "bb", "ccc", "dddd"]
    complete(team.machine("c"), "b2", ["a"], lengths, asset="other")
    assert lengths.asked[4:] == ["a"]


def test_rows_of_a_broken_table_are_made_anew(team: Team) -> None:
    lengths = Lengths()
    complete(team.machine("a"), "a1", ["a", "bb"], lengths)
    for name in team.objects("objects"):
        if team.read(name).startswith(b"PAR1"):
            team.overwrite(name, b"PAR1")
    store = team.machine("b")
    assert complete(store, "a2", ["a", "bb"], lengths) == {"a": 1, "bb": 2}
    assert lengths.asked == ["a", "bb"] * 2


def test_staged_rows_stay_on_their_machine(team: Team) -> None:
    with pytest.raises(RuntimeError, match="memory"):
        complete(team.machine("a"), "dead", list("abcdef"), Lengths(fail_at="e"))
    there, here = Lengths(), Lengths()
    complete(team.machine("a"), "a1", list("abcdef"), here)
    assert here.asked == ["e", "f"]
    complete(team.machine("b"), "a2", list("abcdef"), there)
    assert there.asked == []


def test_a_cache_that_was_deleted_comes_back(team: Team, tmp_path: Path) -> None:
    import shutil

    store = team.machine("a")
    publish(store, "a1", "content")
    shutil.rmtree(store.root)
    found = store.find("model", "a1")
    assert found is not None
    assert (found.model / "weights").read_text() == "content"


def test_a_link_cannot_lead_out_of_the_cache(team: Team) -> None:
    store = team.machine("a")
    link(store, "v1", "../../../outside")
    with pytest.raises(RagftError, match="no name of a publication"):
        store.read("v1", "model")
    team.overwrite("versions/v1/model.json", b"[]")
    with pytest.raises(RagftError, match="damaged link"):
        store.links("v1")
