"""A champion that one machine made, served on another."""

from __future__ import annotations

import shutil

import pytest

from ragft_pipeline.errors import RagftError
from ragft_pipeline.release.promotion import roll_back
from ragft_pipeline.serving.history import History
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.settings import Settings
from ragft_pipeline_tests.s3_server import Team
from ragft_pipeline_tests.serving.conftest import BREAD, PUMP, QUESTION, make_bundle, serve


def test_a_champion_is_served_on_another_machine(team: Team) -> None:
    here, there = team.machine("a"), team.machine("b")
    with pytest.raises(RagftError, match="nothing is promoted yet"):
        Champion(there)
    serve(here, make_bundle(here, "pump", PUMP))
    champion = Champion(there)
    hits = champion.searcher.search(QUESTION, 3)
    assert hits[0].text == PUMP[0]
    assert [hit.text for hit in Champion(here).searcher.search(QUESTION, 3)] == [
        hit.text for hit in hits
    ]
    assert champion.searcher.bundle.folder.is_relative_to(there.root)
    champion.searcher.bundle.verify()

    serve(here, make_bundle(here, "bread", BREAD))
    champion._look_at = 0.0  # as after five seconds
    assert champion.searcher.bundle.version == "bread"
    assert roll_back(there, "", Settings()).version == "pump"
    assert History(here).require_current().version == "pump"


def test_a_bundle_with_a_damaged_object_never_replaces_the_champion(team: Team) -> None:
    here, there = team.machine("a"), team.machine("b")
    serve(here, make_bundle(here, "pump", PUMP))
    champion = Champion(there)
    before = set(team.objects("objects"))
    serve(here, make_bundle(here, "bread", BREAD))
    for name in set(team.objects("objects")) - before:
        team.overwrite(name, b"damaged")
    champion._look_at = 0.0
    assert champion.searcher.bundle.version == "pump"
    assert "is damaged" in champion.problem
    assert not (there.root / "bundles" / History(there).require_current().bundle).exists()


def test_a_bundle_that_left_the_cache_comes_back(team: Team) -> None:
    store = team.machine("a")
    serve(store, make_bundle(store, "pump", PUMP))
    shutil.rmtree(store.root / "bundles")
    assert Champion(store).searcher.search(QUESTION, 1)[0].text == PUMP[0]
