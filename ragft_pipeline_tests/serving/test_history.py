"""The pointer and its history: one file an entry, whole or not there."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ragft_pipeline.errors import RagftError
from ragft_pipeline.serving.history import Entry, Event, History
from ragft_pipeline.store import ArtifactStore


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(ArtifactStore(tmp_path))


def _add(history: History, bundle: str, event: Event = "promoted", version: str = "v1") -> Entry:
    return history.append(history.current(), event, bundle, version, "a test")


def test_the_last_entry_is_in_force(history: History) -> None:
    assert history.current() is None
    for bundle in "ab":
        _add(history, bundle)
    now = history.require_current()
    assert (now.number, now.bundle) == (2, "b")
    assert [entry.bundle for entry in history.entries()] == ["a", "b"]


def test_rolling_back_goes_from_bundle_to_bundle(history: History) -> None:
    for bundle in "abc":
        _add(history, bundle)
    _add(history, "c", "kept")
    assert [history.roll_back("").bundle for _ in range(2)] == ["b", "a"]
    with pytest.raises(RagftError, match="nothing was served before"):
        history.roll_back("")
    _add(history, "d")
    assert history.roll_back("").bundle == "a"


def test_nothing_promoted_is_one_clear_line(history: History) -> None:
    with pytest.raises(RagftError, match="nothing is promoted yet"):
        history.roll_back("")


def test_of_two_decisions_on_one_state_the_second_is_refused(history: History) -> None:
    first = _add(history, "a")

    def decide(bundle: str) -> bool:
        try:
            history.append(first, "promoted", bundle, "v1", "")
        except RagftError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(decide, "bcdefghi"))
    assert sum(done) == 1
    assert len(history.entries()) == 2


def test_judgements_are_counted_since_the_models_in_force_came(history: History) -> None:
    _add(history, "a")
    _add(history, "a", "kept")
    _add(history, "b", "refreshed")
    _add(history, "b", "kept")
    assert history.judgements() == 2
    _add(history, "c")
    assert history.judgements() == 0


def test_a_roll_back_goes_on_with_the_level_that_was_spent(history: History) -> None:
    _add(history, "a")
    _add(history, "a", "kept")
    _add(history, "b")
    _add(history, "b", "kept")
    assert (history.judgements(), history.rolled_back()) == (1, None)
    assert history.roll_back("it answered nonsense").bundle == "a"
    assert history.judgements() == 3, "one before b, b itself, and one since"
    assert history.rolled_back() == "b"
    _add(history, "a2", "refreshed")
    _add(history, "a3", "kept")
    assert (history.judgements(), history.rolled_back()) == (4, "b")
    _add(history, "b", "forced")
    assert (history.judgements(), history.rolled_back()) == (0, None)


_CHURN = """
import sys
from ragft_pipeline.serving.history import History
from ragft_pipeline.store import ArtifactStore
history = History(ArtifactStore(sys.argv[1]))
print("ready", flush=True)
while True:
    for bundle in "ab":
        history.append(history.current(), "promoted", bundle, "v1", "x" * 2000)
    history.roll_back("back")
"""


def test_a_kill_during_promotion_leaves_a_whole_history(tmp_path: Path) -> None:
    history = History(ArtifactStore(tmp_path))
    before = 0
    for round_ in range(3):
        churning = subprocess.Popen(
            [sys.executable, "-c", _CHURN, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert churning.stdout is not None
        churning.stdout.readline()
        time.sleep(0.02 + 0.03 * round_)
        churning.kill()
        churning.wait()
        entries = history.entries()
        assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
        assert len(entries) >= before
        before = len(entries)
    assert _add(history, "z").number == before + 1
