from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import ragft_pipeline
from ragft_pipeline.compute import open_map
from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.settings import ComputeSettings, RaySettings, parse_settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline_tests.compute.functions import SCHEMA, Lengths

WORDS = [f"w{'o' * n}rd{n}" for n in range(24)]


@contextmanager
def workspace(
    folder: Path, compute: ComputeSettings, progress: Callable[[str], None] = lambda line: None
) -> Iterator[Workspace]:
    store = ArtifactStore(folder)
    with store.staging("words") as staged:
        yield Workspace(store, "words", staged, progress, open_map(compute))


def complete(work: Workspace, lengths: Lengths, words: list[str]) -> pa.Table:
    return work.rows("lengths", "s1", SCHEMA).complete(words, str, lengths, batch_size=4)


def lengths_of(table: pa.Table) -> dict[str, int]:
    assert table.num_rows == len(set(table.column("row_key").to_pylist()))
    return dict(zip(table.column("row_key").to_pylist(), table.column("length").to_pylist()))


def calls(log: Path) -> list[list[str]]:
    """Return each word with the process that was given it."""
    return [line.split() for line in log.read_text().splitlines()]


EXPECTED = {word: len(word) for word in WORDS}


def test_the_map_runs_in_actors_of_this_code(tmp_path: Path, on_ray: ComputeSettings) -> None:
    lines: list[str] = []
    with workspace(tmp_path, on_ray, lines.append) as work:
        table = complete(work, Lengths(tmp_path / "log"), WORDS)
    assert lengths_of(table) == EXPECTED
    places = [where.split(" ", 1) for where in table.column("where").to_pylist()]
    assert {file for _, file in places} == {ragft_pipeline.__file__}
    assert str(os.getpid()) not in {pid for pid, _ in places}
    assert work.counts == {"rows_reused": 0, "rows_computed": 24}
    assert lines[-1] == "lengths: 24/24 computed"


def test_only_missing_rows_are_sent(tmp_path: Path, on_ray: ComputeSettings) -> None:
    with workspace(tmp_path, on_ray) as work:
        complete(work, Lengths(tmp_path / "first"), WORDS[:16])
    with workspace(tmp_path, on_ray) as work:  # of a run that died: its rows are staged
        table = complete(work, Lengths(tmp_path / "second"), [*WORDS, "none"])
    assert lengths_of(table) == EXPECTED
    assert work.counts == {"rows_reused": 16, "rows_computed": 8}
    assert sorted(word for word, _ in calls(tmp_path / "second")) == sorted([*WORDS[16:], "none"])


@pytest.mark.parametrize("what", ["worker", "node"])
def test_a_loss_midway_changes_nothing(
    tmp_path: Path, on_ray: ComputeSettings, two_nodes: Any, what: str
) -> None:
    lost: list[Any] = []

    def lose(line: str) -> None:
        if not lost and what == "worker":
            lost.append(int(calls(tmp_path / "log")[-1][1]))
            os.kill(lost[0], signal.SIGKILL)
        elif not lost:
            lost.append(two_nodes.worker_nodes.copy().pop())
            two_nodes.remove_node(lost[0], allow_graceful=False)

    with workspace(tmp_path, on_ray, lose) as work:
        table = complete(work, Lengths(tmp_path / "log", pause=0.5), WORDS)
    assert lost
    assert lengths_of(table) == EXPECTED
    assert work.counts == {"rows_reused": 0, "rows_computed": 24}
    if what == "worker":
        assert len(calls(tmp_path / "log")) > 24  # the words it was busy with were sent again


@pytest.mark.parametrize(
    ("word", "kind"), [("wrong", RagftError), ("later", TransientError), ("bug", RuntimeError)]
)
def test_errors_arrive_as_they_are(
    tmp_path: Path, on_ray: ComputeSettings, word: str, kind: type[Exception]
) -> None:
    with workspace(tmp_path, on_ray) as work, pytest.raises(kind) as caught:
        complete(work, Lengths(tmp_path / "log", fail_at=word), [*WORDS, word])
    assert type(caught.value) is kind
    assert "endpoint http://127.0.0.1:9/v1 answers\nnobody" in str(caught.value)
    if kind is not RuntimeError:
        assert str(caught.value).startswith("endpoint")
    with workspace(tmp_path, on_ray) as work:  # what was done before the error is kept
        assert lengths_of(complete(work, Lengths(tmp_path / "log"), WORDS)) == EXPECTED


def test_short_work_and_closures_stay_here(tmp_path: Path) -> None:
    never = ComputeSettings(
        runner="ray", ray=RaySettings(address="127.0.0.1:1", min_seconds=60, actors=2)
    )
    with workspace(tmp_path / "short", never) as work:
        table = complete(work, Lengths(tmp_path / "log"), WORDS)
    assert {where.split()[0] for where in table.column("where").to_pylist()} == {str(os.getpid())}
    closure = ComputeSettings(runner="ray", ray=RaySettings(address="127.0.0.1:1", min_seconds=0))
    with workspace(tmp_path / "closure", closure) as work:
        lengths = Lengths(tmp_path / "log")
        rows = work.rows("lengths", "s1", SCHEMA)
        assert rows.complete(WORDS, str, lengths.__call__).num_rows == 24


def test_where_no_actor_fits_the_step_works_itself(
    tmp_path: Path, on_ray: ComputeSettings, two_nodes: Any
) -> None:
    large = on_ray.model_copy(update={"ray": on_ray.ray.model_copy(update={"cpus": 64.0})})
    start = time.monotonic()
    with workspace(tmp_path, large) as work:
        assert lengths_of(complete(work, Lengths(tmp_path / "log"), WORDS)) == EXPECTED
    assert time.monotonic() - start < 60


def test_the_section_can_be_one_word() -> None:
    assert parse_settings("compute: ray").compute == ComputeSettings(runner="ray")
    assert parse_settings("compute: local").compute == ComputeSettings()
    with pytest.raises(RagftError, match=r"compute\.runner = 'spark'"):
        parse_settings("compute: spark")


def test_nothing_imports_ray_but_a_map_on_it() -> None:
    program = (
        "import sys; from ragft_pipeline.compute import open_map; "
        "from ragft_pipeline.settings import ComputeSettings; import ragft_pipeline.lineage.steps; "
        "open_map(ComputeSettings(runner='ray')); sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
