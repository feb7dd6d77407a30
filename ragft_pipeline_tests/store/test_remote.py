"""Object storage: conditional writes, and what cannot be a store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ragft_pipeline.errors import RagftError
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.publications import Manifest
from ragft_pipeline.store.remote import Remote, absolute, is_safe, local_path
from ragft_pipeline_tests.conftest import ROOT
from ragft_pipeline_tests.s3_server import LOST, Team

ROUNDS = 40
_RACER = """
import sys
from ragft_pipeline.store.remote import open_remote
remote = open_remote(sys.argv[1])
remote.identity
print("ready", flush=True)
for line in sys.stdin:
    print(remote.create(f"race/{line.strip()}.json", sys.argv[2].encode()), flush=True)
"""
_APPENDER = """
import sys
from ragft_pipeline.errors import RagftError
from ragft_pipeline.serving.history import History
from ragft_pipeline.store import ArtifactStore
history = History(ArtifactStore(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
refused = 0
for number in range(20):
    while True:
        try:
            history.append(history.current(), "promoted", f"{sys.argv[2]}{number}", "v1", "")
            break
        except RagftError as error:
            assert "changed meanwhile" in str(error), error
            refused += 1
print(refused)
"""


Racer = subprocess.Popen[str]


@contextmanager
def racers(team: Team, program: str) -> Iterator[list[Racer]]:
    """Give a program that runs on two machines, once both are ready."""
    both = [team.process(name, program, name) for name in ("left", "right")]
    for racer in both:
        assert listen(racer) == "ready", racer.communicate()[1]
    yield both
    for racer in both:
        racer.kill()
        racer.communicate()


def tell(racer: Racer, line: str) -> None:
    assert racer.stdin is not None
    racer.stdin.write(f"{line}\n")
    racer.stdin.flush()


def listen(racer: Racer) -> str:
    assert racer.stdout is not None
    return racer.stdout.readline().strip()


def test_of_two_processes_that_create_one_pointer_exactly_one_does(team: Team) -> None:
    winners = []
    with racers(team, _RACER) as both:
        for number in range(ROUNDS):
            for racer in both[:: 1 if number % 2 else -1]:  # each goes first as often
                tell(racer, str(number))
            won = [listen(racer) == "True" for racer in both]
            assert sum(won) == 1
            winners.append("left" if won[0] else "right")
            assert team.read(f"race/{number}.json") == winners[-1].encode()
    assert set(winners) == {"left", "right"}


def test_two_processes_that_append_to_one_history_lose_nothing(team: Team) -> None:
    from ragft_pipeline.serving.history import History

    with racers(team, _APPENDER) as both:
        for racer in both:
            tell(racer, "go")
        refused = [int(listen(racer)) for racer in both]
    entries = History(team.machine("third")).entries()
    assert [entry.number for entry in entries] == list(range(1, 41))
    for name in ("left", "right"):
        own = [entry.bundle for entry in entries if entry.bundle.startswith(name)]
        assert own == [f"{name}{number}" for number in range(20)]
    assert sum(refused) > 0, "they met"


def test_an_answer_that_was_lost_is_no_lost_race(team: Team) -> None:
    remote = Remote(team.url)
    lost = [LOST]
    team.server.fault = lambda method, path: lost.pop() if method == "PUT" and lost else None
    assert remote.create("champion/000001.json", b"mine")
    assert not lost
    assert not remote.create("champion/000001.json", b"theirs")
    assert team.read("champion/000001.json") == b"mine"


def test_a_conflict_is_tried_again(team: Team) -> None:
    remote = Remote(team.url)
    conflicts = [409, 409]
    team.server.fault = lambda method, path: (
        conflicts.pop() if "PUT" in method and conflicts else None
    )
    assert remote.create("pointer.json", b"mine")
    assert not conflicts


def test_a_server_that_overhears_conditions_is_refused(team: Team) -> None:
    team.server.deaf = True
    with pytest.raises(RagftError, match=r"overwrites .* If-None-Match"):
        ArtifactStore(team.url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sftp://host/store", "offers no write that fails"),
        ("memory://store", "offers no write that fails"),
        ("simplecache::s3://bucket/store", "offers no write that fails"),
        ("s3://key:hidden@bucket/store", "credentials come from the environment"),
        ("s3://bucket/store?secret=hidden", "credentials come from the environment"),
    ],
)
def test_what_cannot_be_a_store_is_one_line(url: str, reason: str) -> None:
    with pytest.raises(RagftError, match=reason) as caught:
        ArtifactStore(url)
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(RagftError, match="install gcsfs"):
        ArtifactStore("gs://bucket/store")


def test_a_missing_bucket_is_one_line_without_credentials(team: Team) -> None:
    with pytest.raises(RagftError, match="bucket does not exist") as caught:
        ArtifactStore("s3://no-such-bucket/store")
    assert "\n" not in str(caught.value)
    assert "not-to-be-seen" not in str(caught.value)
    assert "loopback" not in str(caught.value)


def test_no_credential_comes_into_the_store_or_the_cache(team: Team) -> None:
    store = team.machine("a")
    with store.staging("model") as staged:
        store.publish("model", "a", staged, data_version="d", facts={}, inputs={})
    files = [path.read_bytes() for path in store.root.rglob("*") if path.is_file()]
    for data in [*files, *(team.read(name) for name in team.objects())]:
        assert b"not-to-be-seen" not in data
        assert b"loopback" not in data


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/store")
    assert store.root == tmp_path / "store"
    assert store.publications is None
    assert local_path("s3://bucket") is None
    assert absolute("s3://bucket/a") == "s3://bucket/a"
    assert absolute("a") == str(Path("a").resolve())


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", "a//b", "a\\b", "C:a", "", ".", "a/\n"])
def test_a_name_that_leads_elsewhere_is_no_name(name: str) -> None:
    assert not is_safe(name)
    files = {"card.json": [1, "0" * 64], name: [1, "0" * 64]}
    data = json.dumps({"files": files, "card_name": "card.json", "card": {}}).encode()
    with pytest.raises(RagftError, match="damaged"):
        Manifest.parse(data, "s3://bucket/artifacts/a/b.json")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"files": {}, "card_name": "a", "card": {}}', b'{"files": 1}', b"\xff"]
)
def test_a_broken_manifest_is_one_line(data: bytes) -> None:
    with pytest.raises(RagftError, match=r"a\.json is damaged"):
        Manifest.parse(data, "s3://bucket/a.json")


def test_the_cache_is_not_shared_by_two_stores(team: Team) -> None:
    first = team.machine("a")
    assert team.machine("a").root == first.root
    assert team.machine("b").root != first.root


def test_a_store_in_a_folder_imports_no_object_storage(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom ragft_pipeline.store import ArtifactStore, Link\n"
        f"store = ArtifactStore({str(tmp_path)!r})\n"
        "assert store.find('model', 'a') is None and not store.links('v1')\n"
        "print(*({'fsspec', 's3fs', 'botocore', 'aiobotocore', 'platformdirs'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""
