"""kill -9 while bundles are built, promoted and rolled back; RAGFT_KILLS=50 for the long run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ragft_pipeline.serving.bundle import BundleStore
from ragft_pipeline.serving.history import History
from ragft_pipeline.store import ArtifactStore

KILLS = int(os.environ.get("RAGFT_KILLS", "2"))
_CHURN = """
import sys
from ragft_pipeline.release.promotion import roll_back
from ragft_pipeline.serving.history import History
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.serving.conftest import PUMP, make_bundle, serve

store, history = ArtifactStore(sys.argv[1]), History(ArtifactStore(sys.argv[1]))
if history.current() is None:
    serve(store, make_bundle(store, "first", PUMP))
print("ready", flush=True)
while True:
    number = len(history.entries())
    serve(store, make_bundle(store, f"corpus-{number}", [f"{text} ({number})" for text in PUMP]))
    roll_back(store, "", Settings())
    serve(store, make_bundle(store, f"corpus-{number}", [f"{text} ({number})" for text in PUMP]))
"""


@pytest.mark.slow
def test_the_pointer_always_names_one_complete_bundle(tmp_path: Path) -> None:
    store, delays = ArtifactStore(tmp_path), random.Random(5)
    history, before = History(store), 0
    for _ in range(KILLS):
        churning = subprocess.Popen(
            [sys.executable, "-c", _CHURN, str(tmp_path)],
            stdout=subprocess.PIPE, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        assert churning.stdout is not None
        assert churning.stdout.readline() == b"ready\n"
        time.sleep(delays.uniform(0.2, 2.5))
        churning.kill()
        churning.wait()
        entries = history.entries()
        assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
        assert len(entries) >= max(1, before)
        before = len(entries)
        for digest in {entry.bundle for entry in entries[-6:]}:
            BundleStore(store).load(digest).verify()
    assert before > 1, "the kills found it at work"
