from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragft_pipeline.store import ArtifactStore, Workspace, rows

SCHEMA = pa.schema([("row_key", pa.string()), ("length", pa.int64())])


@dataclass
class Lengths:
    """Computes lengths of words and remembers which it was asked for."""

    asked: list[str] = field(default_factory=list)
    refuse: frozenset[str] = frozenset()
    fail_at: str = ""

    def __call__(self, batch: Sequence[str]) -> pa.Table:
        if self.fail_at in batch:
            raise RuntimeError("out of memory")
        self.asked += batch
        rows = [{"row_key": w, "length": len(w)} for w in batch if w not in self.refuse]
        return pa.Table.from_pylist(rows, schema=SCHEMA)


@contextmanager
def workspace(store: ArtifactStore, action: str, asset: str = "words") -> Iterator[Workspace]:
    with store.staging(asset) as folder:
        work = Workspace(store, asset, folder)
        yield work
        store.publish(asset, action, folder, data_version=action, facts=work.counts, inputs={})
        work.published()


def complete(
    store: ArtifactStore,
    action: str,
    units: Sequence[str],
    lengths: Lengths,
    *,
    row_settings: str = "s1",
    asset: str = "words",
    family: str | None = None,
) -> dict[str, int]:
    with workspace(store, action, asset) as work:
        cache = work.rows("lengths", row_settings, SCHEMA, family)
        table = cache.complete(units, str, lengths, batch_size=2)
    keys = table.column("row_key").to_pylist()
    assert len(keys) == len(set(keys))
    return dict(zip(keys, table.column("length").to_pylist()))


def staged_rows(store: ArtifactStore, row_settings: str = "s1") -> Path:
    """Return where finished batches of the table `lengths` are staged."""
    return Workspace(store, "words", store.root).rows("lengths", row_settings, SCHEMA)._staging


def staged_files(store: ArtifactStore) -> list[Path]:
    return list((store.root / "staging").rglob("*.parquet"))


def test_only_missing_rows_are_computed(tmp_path: Path) -> None:
    store, lengths = ArtifactStore(tmp_path), Lengths()
    complete(store, "a1", ["a", "bb", "ccc"], lengths)
    result = complete(store, "a2", ["bb", "dddd", "a"], lengths)
    assert result == {"a": 1, "bb": 2, "dddd": 4}
    assert lengths.asked == ["a", "bb", "ccc", "dddd"]
    artifact = store.find("words", "a2")
    assert artifact is not None
    assert artifact.facts == {"rows_reused": 2, "rows_computed": 1}


def test_a_store_under_an_odd_name_reuses_too(tmp_path: Path) -> None:
    store, lengths = ArtifactStore(tmp_path / "team [a]*'?"), Lengths()
    complete(store, "a1", ["a", "bb"], lengths)
    complete(store, "a2", ["a", "bb"], lengths)
    assert lengths.asked == ["a", "bb"]


def test_units_with_one_key_count_once(tmp_path: Path) -> None:
    lengths = Lengths()
    assert complete(ArtifactStore(tmp_path), "a1", ["a", "a", "bb", "a"], lengths) == {
        "a": 1,
        "bb": 2,
    }
    assert lengths.asked == ["a", "bb"]


def test_no_units_give_an_empty_table(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert complete(store, "a1", [], Lengths()) == {}
    assert complete(store, "a2", ["a"], Lengths()) == {"a": 1}


def test_other_row_settings_share_nothing(tmp_path: Path) -> None:
    store, lengths = ArtifactStore(tmp_path), Lengths()
    complete(store, "a1", ["a"], lengths, row_settings="s1")
    complete(store, "a2", ["a"], lengths, row_settings="s2")
    assert lengths.asked == ["a", "a"]


def test_assets_share_rows_only_in_a_family(tmp_path: Path) -> None:
    store, lengths = ArtifactStore(tmp_path), Lengths()
    complete(store, "a1", ["a"], lengths, asset="train_words")
    complete(store, "a1", ["a"], lengths, asset="val_words")
    assert lengths.asked == ["a", "a"]
    complete(store, "a1", ["a"], lengths, asset="test_words", family="*_words")
    assert lengths.asked == ["a", "a"]


def test_a_second_table_of_the_same_artifact_reuses_the_first(tmp_path: Path) -> None:
    store, lengths = ArtifactStore(tmp_path), Lengths()
    with workspace(store, "a1") as work:
        for units in (["a", "bb"], ["bb", "ccc"]):
            work.rows("lengths", "s1", SCHEMA).complete(units, str, lengths)
    assert lengths.asked == ["a", "bb", "ccc"]
    assert complete(store, "a2", ["a", "bb", "ccc"], lengths) == {"a": 1, "bb": 2, "ccc": 3}
    assert lengths.asked == ["a", "bb", "ccc"]


def segments(store: ArtifactStore, action: str) -> list[Path]:
    return sorted(store.artifact_path("words", action).glob("lengths-*.parquet"))


def keys_in(files: list[Path]) -> list[str]:
    tables = [pq.read_table(file) for file in files]
    return sorted(key for table in tables for key in table.column("row_key").to_pylist())


def test_the_second_table_of_an_artifact_adds_its_own_rows_only(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with workspace(store, "a1") as work:
        for units in (["a", "bb"], ["bb", "ccc"], ["a", "ccc"]):
            work.rows("lengths", "s1", SCHEMA).complete(units, str, Lengths())
    assert keys_in(segments(store, "a1")) == ["a", "bb", "ccc"]


def test_artifacts_share_the_segments_of_the_rows_that_they_want(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    wanted = (("a1", ["a", "bb", "e"]), ("a2", ["bb", "a"]), ("a3", ["a", "dddd"]))
    for action, units in wanted:
        assert len(complete(store, action, units, Lengths())) == len(units)
    first, second, third = (segments(store, action) for action, _ in wanted)
    assert [file.name for file in first] == [file.name for file in second]
    assert first[0].samefile(second[0])
    assert {file.name for file in third} > {file.name for file in first}
    assert keys_in(third) == ["a", "bb", "dddd", "e"]


def test_a_second_table_leaves_a_shared_segment_alone(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    complete(store, "a1", ["a", "bb"], Lengths())
    with workspace(store, "a2") as work:
        for units in (["a", "bb"], ["ccc"], ["dddd", "eeeee", "f", "ccc"]):
            work.rows("lengths", "s1", SCHEMA).complete(units, str, Lengths())
    assert keys_in(segments(store, "a1")) == ["a", "bb"]
    assert keys_in(segments(store, "a2")) == ["a", "bb", "ccc", "dddd", "eeeee", "f"]


def test_many_small_changes_leave_few_segments(tmp_path: Path) -> None:
    store, words = ArtifactStore(tmp_path), [f"{n:02}" for n in range(40)]
    for number in range(1, len(words) + 1):
        lengths = Lengths()
        found = complete(store, f"a{number}", words[:number], lengths)
        assert sorted(found) == words[:number]
        assert lengths.asked == words[number - 1 : number]
    assert keys_in(segments(store, "a40")) == words
    assert len(segments(store, "a40")) <= 6


def test_many_small_calls_of_one_artifact_leave_few_segments(tmp_path: Path) -> None:
    store, words = ArtifactStore(tmp_path), [f"{n:02}" for n in range(40)]
    with workspace(store, "a1") as work:
        for word in words:
            work.rows("lengths", "s1", SCHEMA).complete([word, words[0]], str, Lengths())
    assert keys_in(segments(store, "a1")) == words
    assert len(segments(store, "a1")) <= 6


def test_rows_of_a_file_of_before_segments_are_found(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    complete(store, "a1", ["a", "bb"], Lengths())
    (file,) = segments(store, "a1")
    file.rename(file.with_name(f"{file.name.split('.')[0]}.parquet"))
    complete(store, "a2", ["bb", "a"], Lengths(fail_at="a"))
    assert keys_in(segments(store, "a2")) == ["a", "bb"]
    assert segments(store, "a2")[0].name == file.name


def test_without_links_rows_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    store = ArtifactStore(tmp_path)
    complete(store, "a1", ["a", "bb"], Lengths())
    monkeypatch.setattr("os.link", refuse)
    complete(store, "a2", ["a"], Lengths(fail_at="a"))
    assert keys_in(segments(store, "a2")) == ["a"]


def test_rows_of_many_row_groups_come_back_in_parts(tmp_path: Path) -> None:
    store, units = ArtifactStore(tmp_path), [f"{n:04}" for n in range(3000)]
    complete(store, "a1", units, Lengths())
    with workspace(store, "a2") as work:
        cache = work.rows("lengths", "s1", SCHEMA)
        parts = list(cache.batches([*units[::7], "new"], str, Lengths(), batch_size=2))
    keys = [key for part in parts for key in part.column("row_key").to_pylist()]
    assert sorted(keys) == sorted([*units[::7], "new"])
    assert keys_in(segments(store, "a2")) == sorted([*units, "new"])


def test_batches_finished_before_an_exception_are_reused(tmp_path: Path) -> None:
    store, failing, after = ArtifactStore(tmp_path), Lengths(fail_at="e"), Lengths()
    with pytest.raises(RuntimeError, match="memory"):
        complete(store, "a1", ["a", "b", "c", "d", "e"], failing)
    assert store.find("words", "a1") is None
    assert len(complete(store, "a1", ["a", "b", "c", "d", "e"], after)) == 5
    assert after.asked == ["e"]
    assert staged_files(store) == []


def test_batches_finished_before_a_kill_are_reused(tmp_path: Path) -> None:
    script = f"""
import os, signal, sys
from pathlib import Path
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.store.test_rows import Lengths, complete

class Killed(Lengths):
    def __call__(self, batch):
        if "e" in batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)

complete(ArtifactStore({str(tmp_path)!r}), "a1", list("abcdef"), Killed())
"""
    run = subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parents[2])
    assert run.returncode == -signal.SIGKILL
    store, lengths = ArtifactStore(tmp_path), Lengths()
    assert store.find("words", "a1") is None
    assert len(complete(store, "a1", list("abcdef"), lengths)) == 6
    assert lengths.asked == ["e", "f"]
    assert staged_files(store) == []


def test_thousands_of_staged_batches_are_picked_up_with_few_files_open(tmp_path: Path) -> None:
    store, words = ArtifactStore(tmp_path), [f"w{n}" for n in range(600)]
    staged, rows = staged_rows(store), Lengths()
    staged.mkdir(parents=True)
    for word in words:
        pq.write_table(rows([word]), staged / f"words.{word}.parquet")
    script = f"""
import resource, sys
from pathlib import Path
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.store.test_rows import Lengths, complete

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
lengths = Lengths()
found = complete(ArtifactStore({str(tmp_path)!r}), "a1", [f"w{{n}}" for n in range(601)], lengths)
assert found == {{f"w{{n}}": len(f"w{{n}}") for n in range(601)}}, len(found)
assert lengths.asked == ["w600"], lengths.asked
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
    assert staged_files(store) == []
    assert len(complete(store, "a2", words, Lengths(fail_at="w1"))) == 600


def test_rows_stay_readable_though_all_their_files_are_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "OPEN_FILES", 2)
    store, words = ArtifactStore(tmp_path), list("abcdefg")
    for word in words:
        complete(store, word, [word], Lengths())
    with workspace(store, "last") as work:
        parts = work.rows("lengths", "s1", SCHEMA).batches([*words, "new"], str, Lengths())
        keys = next(parts).column("row_key").to_pylist()
        for word in words:
            shutil.rmtree(store.artifact_path("words", word))
        keys += [key for part in parts for key in part.column("row_key").to_pylist()]
    assert sorted(keys) == sorted([*words, "new"])


def test_a_system_out_of_files_costs_no_staged_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(RuntimeError, match="memory"):
        complete(store, "a1", ["a", "b", "c"], Lengths(fail_at="c"))

    def refuse(*_: Any) -> Any:
        raise OSError(errno.EMFILE, "too many open files")

    def refuse_to_search(*_: Any) -> Any:
        raise duckdb.IOException("Too many open files")

    monkeypatch.setattr(pq, "read_metadata", refuse)
    monkeypatch.setattr("ragft_pipeline.store.rows.find_rows", refuse_to_search)
    complete(store, "a1", ["a", "b", "c"], Lengths())
    assert len(staged_files(store)) == 1


def test_a_half_written_batch_is_never_read(tmp_path: Path) -> None:
    store, lengths = ArtifactStore(tmp_path), Lengths()
    half = staged_rows(store) / ".0123"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"PAR1")
    assert complete(store, "a1", ["a"], lengths) == {"a": 1}


def test_a_unit_without_a_row_is_tried_again(tmp_path: Path) -> None:
    store, lengths = ArtifactStore(tmp_path), Lengths(refuse=frozenset({"bb"}))
    assert complete(store, "a1", ["a", "bb"], lengths) == {"a": 1}
    lengths.refuse = frozenset()
    assert complete(store, "a2", ["a", "bb"], lengths) == {"a": 1, "bb": 2}
    assert lengths.asked == ["a", "bb", "bb"]


def test_rows_that_cannot_be_read_are_made_anew_and_the_reason_is_told(tmp_path: Path) -> None:
    store, lengths = ArtifactStore(tmp_path), Lengths()
    complete(store, "a1", ["a"], lengths)
    segments(store, "a1")[0].write_bytes(b"PAR1 and no more")
    lines: list[str] = []
    with store.staging("words") as folder:
        cache = Workspace(store, "words", folder, lines.append).rows("lengths", "s1", SCHEMA)
        assert len(cache.complete(["a"], str, lengths)) == 1
    assert lengths.asked == ["a", "a"]
    assert "earlier rows are made anew, for " in lines[0]


def test_progress_names_the_table_and_the_count(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    lines: list[str] = []
    with store.staging("words") as folder:
        work = Workspace(store, "words", folder, lines.append)
        cache = work.rows("lengths", "s1", SCHEMA)
        cache.complete(["a", "bb", "ccc"], str, Lengths(), batch_size=2)
    assert lines == ["lengths: 2/3 computed", "lengths: 3/3 computed"]
