from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from ragft_pipeline.cli import main
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.serving.conftest import PUMP, QUESTION, Bundles, serve, service

CLIENTS = 32


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_an_answer_is_what_the_searcher_finds_and_says_whose(
    client: TestClient, promoted: Bundles
) -> None:
    _, pump, _ = promoted
    answer = client.get("/search", params={"question": QUESTION, "top": 3})
    assert answer.status_code == 200
    body = answer.json()
    hits = Searcher(pump).search(QUESTION, 3)
    assert [hit["node_id"] for hit in body["hits"]] == [hit.node_id for hit in hits]
    first = body["hits"][0]
    assert first["text"] == PUMP[0]
    assert {key: first[key] for key in ("rank", "title", "heading", "path")} == {
        "rank": 1, "title": "pump", "heading": "", "path": "pump.md",
    }  # fmt: skip
    assert first["score"] == pytest.approx(hits[0].score, abs=1e-5)
    assert set(first["parts"]) == {"dense", "bm25"}
    assert body["served"] == {
        "bundle": pump.digest, "entry": 1, "version": "pump", "system": "hybrid(base)",
    }  # fmt: skip
    posted = client.post("/search", json={"question": QUESTION, "top": 3})
    assert posted.json() == body


def test_what_is_served_is_told(client: TestClient, promoted: Bundles) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    served = client.get("/champion").json()
    assert served["bundle"] == promoted[1].digest
    assert (served["entry"], served["event"], served["problem"]) == (1, "forced", "")
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/search", "/compare", "/champion", "/health"}
    assert client.get("/docs").status_code == 404  # it would load scripts from elsewhere


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"question": "a" * 201}, "question: 201 characters, at most 200"),
        ({"question": "  "}, "question: must not be empty"),
        ({"question": "a", "top": 101}, "top: input should be less than or equal to 100"),
        ({"question": "a", "top": "many"}, "top: input should be a valid integer"),
        ({"question": "a", "depth": 3}, "depth: extra inputs are not permitted"),
        ({}, "question: field required"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_wrong_request_is_named_in_one_line(
    client: TestClient, query: dict[str, Any], words: str, method: str
) -> None:
    given: dict[str, Any] = {"params": query} if method == "GET" else {"json": query}
    answer = client.request(method, "/search", **given)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_what_no_tokenizer_can_read_is_refused(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post("/search", content=b'{"question": "\\ud800"}', headers=headers)
    assert answer.status_code == 422
    assert client.get("/search", params={"question": "\x00 ?!"}).status_code == 200


def test_large_bodies_and_other_names_are_refused_before_they_are_read(client: TestClient) -> None:
    assert client.post("/search", content=b"x" * 100_000).status_code == 413

    def endless() -> Iterator[bytes]:
        yield b"x"

    assert client.post("/search", content=endless()).status_code == 411
    assert client.get("/health", headers={"Host": "rebound.example"}).status_code == 400


def test_the_token_opens_and_nothing_else_does(promoted: Bundles) -> None:
    with service(promoted[0], token="s3cret") as client:
        for path in (f"/search?question={QUESTION}", f"/compare?question={QUESTION}", "/champion"):
            for headers in (
                {},
                {"Authorization": "Bearer s3cre"},
                {"Authorization": "Basic s3cret"},
                {"Authorization": "Bearer s3crét".encode()},
            ):
                refused = client.get(path, headers=headers)  # type: ignore[arg-type]
                assert refused.status_code == 401
                assert refused.headers["WWW-Authenticate"] == "Bearer"
            right = {"Authorization": "Bearer s3cret"}
            assert client.get(path, headers=right).status_code == 200
        assert client.get("/health").status_code == 200
        assert client.get("/").status_code == 200
        assert "s3cret" not in client.get("/").text


class Slow:
    """A champion whose searches wait until they are let go, and count how many run."""

    def __init__(self, store: ArtifactStore) -> None:
        self.inner = Champion(store)
        self.entry, self.problem = self.inner.entry, ""
        self.searcher = self
        self.bundle = self.inner.searcher.bundle
        self.go = threading.Event()
        self.running = self.most = self.asked = 0
        self.fails: Exception | None = None
        self.lock = threading.Lock()

    def search(self, question: str, top: int, filters: Any = None) -> list[Any]:
        with self.lock:
            self.running += 1
            self.asked += 1
            self.most = max(self.most, self.running)
        assert self.go.wait(60)
        with self.lock:
            self.running -= 1
        if self.fails is not None:
            raise self.fails
        return self.inner.searcher.search(question, top)


def test_only_so_many_search_and_wait_and_the_rest_come_back_later(promoted: Bundles) -> None:
    slow: Any = Slow(promoted[0])
    with (
        service(promoted[0], slow, max_concurrent=2, max_waiting=3) as client,
        ThreadPoolExecutor(8) as pool,
    ):

        def ask(_: int = 0) -> httpx.Response:
            return client.get("/search", params={"question": QUESTION})

        asked = [pool.submit(ask, number) for number in range(8)]
        wait_for(lambda: sum(future.done() for future in asked) == 3)
        assert client.get("/health").status_code == 200  # searches do not hold up the event loop
        slow.go.set()
        answers = [future.result(60) for future in asked]
        assert ask().status_code == 200
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] * 5 + [503] * 3
    assert slow.most == 2
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["Retry-After"] == "1"


def test_no_answer_is_mixed_while_the_champion_changes_under_32_clients(promoted: Bundles) -> None:
    store, pump, bread = promoted
    versions = {bundle.digest: bundle.version for bundle in (pump, bread)}
    done = threading.Event()
    answers: list[httpx.Response] = []

    def answered_by(entry: int) -> bool:
        return any(answer.json()["served"]["entry"] == entry for answer in answers[-CLIENTS:])

    with service(store) as client, ThreadPoolExecutor(CLIENTS) as pool:

        def ask_on(number: int) -> None:
            path = "/compare" if number % 2 else "/search"
            while not done.is_set():
                answers.append(client.get(path, params={"question": QUESTION}))

        asking = [pool.submit(ask_on, number) for number in range(CLIENTS)]
        wait_for(lambda: answered_by(1))
        for entry, bundle in enumerate((bread, pump, bread, pump), start=2):
            serve(store, bundle)
            wait_for(lambda e=entry: answered_by(e))  # type: ignore[misc]
        done.set()
        for future in asking:
            future.result(120)
    seen = set()
    for answer in answers:
        assert answer.status_code == 200
        body = answer.json()
        served = body["served"]
        hits = body["hits"] if "hits" in body else body["base"] + body["champion"]
        assert hits
        assert {hit["title"] for hit in hits} == {versions[served["bundle"]]}
        assert served["version"] == versions[served["bundle"]]
        assert served["version"] == ("pump" if served["entry"] % 2 else "bread")
        seen.add(served["entry"])
    assert seen == {1, 2, 3, 4, 5}


def test_a_bundle_that_cannot_be_served_leaves_the_old_one_answering(promoted: Bundles) -> None:
    store, pump, bread = promoted
    shutil.rmtree(bread.folder / "vectors")
    with service(store) as client:
        serve(store, bread)
        wait_for(lambda: client.get("/health").json() == {"status": "stale"})
        problem = client.get("/champion").json()["problem"]
        assert bread.digest[:12] in problem
        answer = client.get("/search", params={"question": QUESTION})
        assert answer.json()["served"]["bundle"] == pump.digest


def test_the_page_stands_alone_and_puts_nothing_in_as_markup(client: TestClient) -> None:
    answer = client.get("/")
    page = answer.text
    assert answer.headers["Content-Type"].startswith("text/html")
    assert re.findall(r"(?:https?:)?//[\w.]+\.\w", page) == []
    assert re.findall(r"\b(?:src|srcset|@import|url\()", page) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page) == []
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_command_says_in_one_line_why_it_cannot_serve(
    promoted: Bundles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("RAGFT_STORE", raising=False)
    monkeypatch.delenv("SEARCH_TOKEN", raising=False)
    settings = tmp_path / "ragft.yaml"
    settings.write_text("serve: {token_env: SEARCH_TOKEN}")
    monkeypatch.setenv("RAGFT_SETTINGS", str(settings))

    def refusal(*arguments: str) -> str:
        assert main(["serve", *arguments]) == 1
        return capsys.readouterr().err

    assert refusal() == ("ragft: serve.token_env: the environment variable SEARCH_TOKEN is empty\n")
    monkeypatch.setenv("SEARCH_TOKEN", "s3cret")
    monkeypatch.setenv("RAGFT_STORE", str(tmp_path / "empty"))
    assert refusal().startswith("ragft: nothing is promoted yet: ")
    monkeypatch.setenv("RAGFT_STORE", str(promoted[0].root))
    assert refusal("--host", "203.0.113.1").startswith("ragft: cannot listen on 203.0.113.1, port")
