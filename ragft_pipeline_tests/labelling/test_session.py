"""A session over real systems: pooled, unnamed, saved at once, for several people."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.labelling.hold import being_judged
from ragft_pipeline.labelling.service import create_label_app
from ragft_pipeline.labelling.session import candidates
from ragft_pipeline.questions.log import question_id
from ragft_pipeline.questions.log_parts import kept_to_be_judged
from ragft_pipeline.questions.votes import Vote, Votes
from ragft_pipeline_tests.corpora import prose
from ragft_pipeline_tests.labelling.conftest import ASKED, Handbook, labelling_process
from ragft_pipeline_tests.serving.conftest import ADDRESS, PUMP


@pytest.fixture
def client(handbook: Handbook) -> Iterator[TestClient]:
    with TestClient(create_label_app(handbook.session()), base_url=ADDRESS) as client:
        yield client


def post(client: Any, path: str, **body: Any) -> Any:
    answer = client.post(path, json={"who": "ada", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def label_one(client: Any, who: str = "ada") -> str:
    """Judge a question's first passage as answering, with three characters marked."""
    shown = client.get("/next", params={"who": who}).json()
    node, name = shown["passages"][0]["node_id"], shown["question_id"]
    said = {"question_id": name, "node_id": node, "grade": 2, "marked": [4, 7]}
    assert client.post("/judge", json={"who": who, **said}).status_code == 201
    ended = {"who": who, "question_id": name, "how": "done"}
    assert client.post("/end", json=ended).status_code == 201
    return str(name)


def test_what_is_judged_becomes_a_gold_question_that_a_run_uses(
    client: TestClient, handbook: Handbook
) -> None:
    assert being_judged(handbook.store)
    asked = post(client, "/ask", question="How often is the strainer cleaned, exactly?")
    texts = [one["text"] for one in asked["passages"]]
    assert 4 <= len(texts) == len(set(texts))
    assert not {"system", "score", "rank"} & set(asked["passages"][0])
    right = next(one for one in asked["passages"] if one["text"] == PUMP[0])
    name, start = asked["question_id"], PUMP[0].index("every Friday")
    span = [start, start + len("every Friday")]
    post(client, "/judge", question_id=name, node_id=right["node_id"], grade=2, marked=span)
    wrong = next(one for one in asked["passages"] if one is not right)
    post(client, "/judge", question_id=name, node_id=wrong["node_id"], grade=0)
    assert handbook.entries() == []
    post(client, "/end", question_id=name, how="done")
    (entry,) = handbook.entries()
    assert entry["answers"][0] == {  # type: ignore[index]
        "doc": right["path"], "text": "every Friday", "answer_start": start, "grade": 2,
    }  # fmt: skip
    again = client.get("/question", params={"question_id": name, "who": "ada"}).json()
    shown = next(one for one in again["passages"] if one["node_id"] == right["node_id"])
    assert (shown["grade"], shown["marked"], again["ended"]) == (2, span, "done")
    around = client.get("/document", params={"node_id": right["node_id"]}).json()
    assert around["text"] == PUMP[0]
    assert PUMP[1] in around["after"]
    assert "1 of about" in client.get("/progress").json()["words"]
    version = SnapshotStore(handbook.store).freeze(handbook.settings)
    assert (version.facts["gold_questions"], version.gold_left_out) == (1, [])


def test_every_question_comes_once_and_search_by_hand_finds_more(client: TestClient) -> None:
    seen = []
    while "question_id" in (shown := client.get("/next", params={"who": "ada"}).json()):
        seen.append(shown["question"])
        post(client, "/end", question_id=shown["question_id"], how="nowhere")
    assert sorted(seen) == sorted(ASKED)
    found = client.get(
        "/find", params={"question_id": question_id(ASKED[0]), "who": "ada", "asked": "rye dough"}
    ).json()
    assert "Rye dough" in found["passages"][0]["text"]


def test_a_wrong_request_is_named_and_another_website_refused(client: TestClient) -> None:
    shown = client.get("/next", params={"who": "ada"}).json()
    name, node = shown["question_id"], shown["passages"][0]["node_id"]
    good = {"who": "ada", "question_id": name, "node_id": node, "grade": 2}
    for change, code in (
        ({"marked": [5, 9999]}, 409), ({"marked": [-2, 2]}, 409), ({"node_id": "none"}, 409),
        ({"question_id": "0" * 32}, 409), ({"grade": 3}, 422), ({"who": ""}, 422), ({"x": 1}, 422),
    ):  # fmt: skip
        assert client.post("/judge", json=good | change).status_code == code
    assert client.post("/ask", json={"who": "ada", "question": "  "}).status_code == 422
    evil = {"Origin": "https://evil.example"}
    assert client.post("/judge", json=good, headers=evil).status_code == 403
    assert client.get("/progress", headers={"Host": "evil.example"}).status_code == 400


def test_two_people_at_once_lose_nothing_and_their_agreement_is_told(
    client: TestClient, handbook: Handbook
) -> None:
    with ThreadPoolExecutor(2) as pool:
        names = pool.map(lambda who: [label_one(client, who) for _ in range(4)], ("ada", "ben"))
        judged = {name for own in names for name in own}
    assert {entry["id"] for entry in handbook.entries()} == {name[:12] for name in judged}
    for who in ("ada", "ben"):  # the same passage of the same question
        post(client, "/judge", who=who, question_id=min(judged), node_id="0-0", grade=1)
    told = client.get("/progress").json()
    assert told["agreement"]["passages"] >= 1
    assert told["people"] == {"ada": 4, "ben": 4}


def test_what_trains_is_never_offered_and_votes_come_first(handbook: Handbook) -> None:
    store = handbook.store
    votes = Votes(store, 0)
    texts = [f"does the {prose(n, 3)} rattle?" for n in range(40)]
    for question in texts:
        votes.add(Vote(question, "0-0", up=False, bundle="b"))
    trains = next(v for v in texts if not kept_to_be_judged(question_id(v), 0.2))
    given = ["is it given?", ASKED[0], trains.upper()]
    found = candidates(store, given, [ASKED[0]], 0.8)
    assert question_id(trains) in found.training
    assert question_id("is it given?") in found.questions
    assert question_id(ASKED[0]) not in found.questions
    voted = set(found.questions) - {question_id("is it given?")}
    assert 1 <= len(voted) < 40
    assert all(kept_to_be_judged(name, 0.2) for name in voted)
    session = handbook.session(["is it given?"])
    assert session.next("ada") in voted
    with pytest.raises(RagftError, match="trains"):
        session.ask(trains)
    session.close()


@pytest.mark.parametrize("rounds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_kill_between_two_judgements_loses_none(
    handbook: Handbook, tmp_path: Path, rounds: int
) -> None:
    for round_ in range(rounds):
        with labelling_process(handbook, tmp_path / "log") as (address, process):
            with httpx.Client(base_url=address, timeout=60) as client:
                done = [label_one(client) for _ in range(2)]
                shown = client.get("/next", params={"who": "ada"}).json()
                said = {"question_id": shown["question_id"], "grade": 1}
                node = shown["passages"][0]["node_id"]
                post(client, "/judge", node_id=node, **said)
                os.kill(process.pid, signal.SIGKILL)
            process.wait(60)
        assert len(handbook.entries()) == 2 * (round_ + 1)
        assert {name[:12] for name in done} <= {entry["id"] for entry in handbook.entries()}
        assert not being_judged(handbook.store)
        session = handbook.session()
        kept = session.shown(shown["question_id"], "ada")["passages"]
        assert [one["grade"] for one in kept if one["node_id"] == node] == [1]
        session.close()
