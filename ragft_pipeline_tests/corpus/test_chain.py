"""The chain of versions on object storage: one chain, whatever machines freeze at once."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from ragft_pipeline import schemas
from ragft_pipeline.corpus.snapshots import Snapshot, SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline_tests.corpora import prose, settings_for, write_corpus
from ragft_pipeline_tests.s3_server import Team


class Machine:
    """A machine with documents of its own and the team's store."""

    def __init__(self, team: Team, name: str) -> None:
        self.folder = team.folder / f"corpus-{name}"
        self.settings = settings_for(self.folder, team.folder).model_copy(
            update={"store": team.url}
        )
        self.snapshots = SnapshotStore(team.machine(name))
        write_corpus(self.folder, {f"{n}.md": f"# Page {n}\n\n{prose(n)}" for n in range(6)})

    def freeze(self) -> Snapshot:
        return self.snapshots.freeze(self.settings)

    def write(self, name: str, seed: str) -> None:
        write_corpus(self.folder, {name: prose(seed)})

    def texts(self, version: str) -> dict[str, str]:
        rows = self.snapshots.load(version).table(schemas.DOCUMENTS).to_pylist()
        return {row["path"]: self.snapshots.text(row["doc_key"]) for row in rows}


@pytest.fixture
def machines(team: Team) -> tuple[Machine, Machine]:
    return Machine(team, "a"), Machine(team, "b")


def test_another_machine_reads_a_version_whose_files_it_never_had(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    first = here.freeze()
    texts = here.texts(first.version)
    for machine in machines:
        shutil.rmtree(machine.folder)
    assert there.snapshots.versions() == [first.version]
    assert there.snapshots.current() == there.snapshots.load(first.version)
    assert there.snapshots.load(first.version).data_version == first.data_version
    assert there.snapshots.load(first.version).guard == first.guard
    assert there.texts(first.version) == texts


def test_the_same_documents_are_one_version_on_two_machines(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    assert here.freeze().version == there.freeze().version
    assert len(here.snapshots.versions()) == 1


def test_every_machine_counts_how_often_the_documents_came_to_a_version(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    first = here.freeze().version
    there.freeze()
    assert there.snapshots.arrivals(first) == 1
    here.write("new.md", "new")
    second = here.freeze().version
    there.freeze()
    assert there.snapshots.arrivals(first) == here.snapshots.arrivals(first) == 2
    assert there.snapshots.arrivals(second) == 1


def test_machines_that_freeze_at_once_make_one_chain(machines: tuple[Machine, Machine]) -> None:
    machines[0].freeze()

    def churn(machine: Machine) -> list[str]:
        own = []
        for number in range(3):
            machine.write("new.md", f"{machine.folder} {number}")
            own.append(machine.freeze().version)
        return own

    with ThreadPoolExecutor(2) as threads:
        made = list(threads.map(churn, machines))
    versions = machines[0].snapshots.versions()
    assert versions == machines[1].snapshots.versions()
    assert sorted([*made[0], *made[1]]) == sorted(versions[1:])
    assert [int(version[1:5]) for version in versions] == list(range(1, 8))
    ledger: set[str] = set()
    for parent, version in zip([None, *versions], versions):
        snapshot = machines[0].snapshots.load(version)
        assert snapshot.facts["parent"] == parent
        known = set(snapshot.table(schemas.LEDGER).column("doc_key").to_pylist())
        assert ledger <= known  # no text that was ever frozen is forgotten
        ledger = known
    current = machines[0].snapshots.current()
    assert current is not None
    assert current.version == versions[-1]
    assert machines[1].texts(made[0][2]) == machines[0].texts(made[0][2])


def test_going_back_moves_the_pointer_for_every_machine(machines: tuple[Machine, Machine]) -> None:
    here, there = machines
    first = here.freeze().version
    there.write("3.md", "other")
    second = there.freeze().version
    assert here.freeze().version == first
    for machine in machines:
        current = machine.snapshots.current()
        assert current is not None
        assert current.version == first
    there.write("3.md", "third")
    assert there.freeze().facts["parent"] == second


def test_a_freeze_that_fails_before_its_entry_leaves_no_version(
    team: Team, machines: tuple[Machine, Machine]
) -> None:
    here, there = machines
    team.server.fault = lambda method, path: (
        403 if method == "PUT" and "/freezes/" in path else None
    )
    with pytest.raises(RagftError):
        here.freeze()
    assert there.snapshots.versions() == []
    team.server.heal()
    assert here.freeze().version == there.freeze().version


def test_a_damaged_text_is_one_line(team: Team, machines: tuple[Machine, Machine]) -> None:
    here, there = machines
    version = here.freeze().version
    for name in team.objects("blobs"):
        team.overwrite(name, b"Something else.")
    with pytest.raises(RagftError, match=r"blobs/.* is damaged"):
        there.texts(version)


@pytest.mark.parametrize("bad", [b"{}", b"", b'{"version": "../../v0001-0123456789"}'])
def test_a_damaged_entry_is_one_line(
    team: Team, machines: tuple[Machine, Machine], bad: bytes
) -> None:
    machines[0].freeze()
    team.overwrite("freezes/000002.json", bad)
    with pytest.raises(RagftError, match=r"freezes/000002\.json .* damaged"):
        machines[1].snapshots.current()
