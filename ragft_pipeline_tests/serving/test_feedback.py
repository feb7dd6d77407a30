"""Votes on what was served: bounded, from its own page alone, none lost, none doubled."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ragft_pipeline.questions.votes import Votes, read_votes
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.service import create_app
from ragft_pipeline.settings import ServeSettings
from ragft_pipeline_tests.serving.conftest import ADDRESS, QUESTION, Bundles, serve
from ragft_pipeline_tests.serving.test_service import CLIENTS


def opened(promoted: Bundles, token: str = "", most_bytes: int = 0, **limits: Any) -> TestClient:
    store = promoted[0]
    settings, votes = ServeSettings(**limits), Votes(store, most_bytes)
    return TestClient(create_app(Champion(store), settings, token, votes=votes), base_url=ADDRESS)


def vote(promoted: Bundles, **fields: Any) -> dict[str, Any]:
    given = {"question": QUESTION, "node_id": "pump-0", "vote": "up", "bundle": promoted[1].digest}
    return given | fields


def test_a_vote_is_kept_and_a_wrong_one_is_named(promoted: Bundles) -> None:
    with opened(promoted, max_question_chars=200) as client:
        answer = client.post("/feedback", json=vote(promoted))
        assert (answer.status_code, answer.json()) == (201, {"status": "kept"})
        old = vote(promoted, bundle=promoted[2].digest, node_id="bread-0", vote="down")
        assert client.post("/feedback", json=old).status_code == 201
        for fields, words in (
            ({"node_id": "bread-0"}, "node_id: the bundle has no such passage"),
            ({"bundle": "0" * 32}, "bundle: there is none"),
            ({"bundle": "../../x"}, "bundle: string should match"),
            ({"vote": "sideways"}, "vote: input should be 'up' or 'down'"),
            ({"question": " "}, "question: must not be empty"),
            ({"question": "a" * 201}, "question: 201 characters"),
            ({"more": 1}, "more: extra inputs"),
        ):
            refused = client.post("/feedback", json=vote(promoted, **fields))
            assert refused.status_code == 422
            assert words in refused.json()["detail"]
        assert client.get("/feedback").status_code == 405
    kept = read_votes(promoted[0])
    assert [(row["node_id"], row["up"]) for row in kept] == [("pump-0", True), ("bread-0", False)]


def test_another_website_and_who_has_no_token_are_refused(promoted: Bundles) -> None:
    with opened(promoted, token="s3cret") as client:
        right = {"Authorization": "Bearer s3cret"}
        assert client.post("/feedback", json=vote(promoted)).status_code == 401
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:8001"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            refused = client.post("/feedback", json=vote(promoted), headers=right | headers)
            assert refused.status_code == 403
            assert (
                client.post("/search", json={"question": "a"}, headers=headers).status_code == 403
            )
        own = right | {"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"}
        assert client.post("/feedback", json=vote(promoted), headers=own).status_code == 201
    assert len(read_votes(promoted[0])) == 1


def test_votes_beyond_the_room_there_is_are_refused_by_name(promoted: Bundles) -> None:
    with opened(promoted, most_bytes=300) as client:
        codes = [client.post("/feedback", json=vote(promoted)).status_code for _ in range(4)]
    assert codes == [201, 507, 507, 507]
    assert len(read_votes(promoted[0])) == 1


@pytest.mark.parametrize("number", [320, pytest.param(10_000, marks=pytest.mark.slow)])
def test_votes_of_32_clients_while_the_champion_changes_are_each_kept_once(
    promoted: Bundles, number: int
) -> None:
    store, pump, bread = promoted
    done = threading.Event()

    def change() -> None:
        while not done.wait(0.05):
            for bundle in (bread, pump):
                serve(store, bundle)

    with opened(promoted) as client, ThreadPoolExecutor(CLIENTS) as pool:
        changing = threading.Thread(target=change)
        changing.start()

        def send(place: int) -> int:
            bundle, node = ((pump, "pump-1"), (bread, "bread-1"))[place % 2]
            given = vote(
                promoted, question=f"{QUESTION} {place}", bundle=bundle.digest, node_id=node,
                vote_id=f"v{place}",
            )  # fmt: skip
            first = client.post("/feedback", json=given).status_code
            again = client.post("/feedback", json=given).status_code if place % 10 == 0 else first
            return max(first, again)

        codes = Counter(pool.map(send, range(number)))
        done.set()
        changing.join(60)
    assert codes == {201: number}
    assert sorted(row["vote_id"] for row in read_votes(store)) == sorted(
        f"v{place}" for place in range(number)
    )
