from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ragft_pipeline.errors import RagftError
from ragft_pipeline.store.journal import Journal


def write(path: Path, who: int, number: int) -> None:
    journal = Journal(path)
    for place in range(number):
        journal.append({"who": who, "place": place, "text": "ü\u2028"})


def test_many_threads_lose_and_double_nothing_and_keep_their_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "j.jsonl")

    def run(who: int) -> None:
        for place in range(20):
            journal.append({"who": who, "place": place})

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, range(16)))
    rows = journal.read()
    assert len(rows) == 16 * 20
    for who in range(16):
        assert [row["place"] for row in rows if row["who"] == who] == list(range(20))


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=write, args=(path, who, 40)) for who in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    rows = Journal(path).read()
    assert sorted((row["who"], row["place"]) for row in rows) == [
        (who, place) for who in range(2) for place in range(40)
    ]


def test_a_line_cut_short_by_a_kill_harms_no_other(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append({"n": 1})
    with journal.path.open("ab") as file:
        file.write(b'{"n": 2, "te')
    assert journal.read() == [{"n": 1}]
    Journal(journal.path).append({"n": 3})
    assert journal.read() == [{"n": 1}, {"n": 3}]


def test_a_full_file_refuses_and_stays_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl", most_bytes=40)
    journal.append({"n": 1})
    with pytest.raises(RagftError, match="is full"):
        journal.append({"text": "x" * 40})
    journal.append({"n": 2})
    assert journal.read() == [{"n": 1}, {"n": 2}]
