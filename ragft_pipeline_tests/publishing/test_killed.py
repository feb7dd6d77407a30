"""A publishing process that is killed: what is live answers, and the next run finishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragft_pipeline_tests.publishing.killing import outcome, points, spread
from ragft_pipeline_tests.publishing.stores import KINDS, target_settings

_WHOLE = {"live one whole": True, "next run finished": True, "nothing left over": True}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_live_outlives_a_kill_and_the_next_run_finishes(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    database = request.getfixturevalue("database") if kind == "pgvector" else ""
    settings = target_settings(kind, tmp_path, database, "killed")
    assert outcome(settings, tmp_path / "locks", points() // 2) == _WHOLE


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_thirty_kills(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    database = request.getfixturevalue("database") if kind == "pgvector" else ""
    for number, point in enumerate(spread(30)):
        settings = target_settings(kind, tmp_path / str(number), database, f"thirty{number}")
        assert (point, outcome(settings, tmp_path / "locks", point)) == (point, _WHOLE)
