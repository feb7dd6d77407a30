"""Questions from an OpenAI-compatible server, asked of a real one on the loopback."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.models.language_model import Reply
from ragft_pipeline.questions.drafts import SourceNode
from ragft_pipeline.questions.endpoint import EndpointModel
from ragft_pipeline.questions.llm import build_prompt, parse_questions, write_questions
from ragft_pipeline.settings import ComputeSettings, LLMGenerator
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline_tests.questions.openai_server import (
    CLOSE,
    DRIP,
    HANG,
    OpenAIServer,
    Step,
    fail,
    say,
    send_json,
    serving,
)

KEY_ENV = "RAGFT_TEST_KEY"
KEY = "sk-test-4f1d9c-never-on-disk"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(KEY_ENV, KEY)
    with serving() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def endpoint(server: OpenAIServer, **changes: Any) -> LLMGenerator:
    values: dict[str, Any] = {
        "model": "scripted",
        "base_url": server.url,
        "api_key_env": KEY_ENV,
        "share_of_nodes": 1.0,
        "max_retries": 1,
        "timeout_seconds": 10.0,
    }
    return LLMGenerator(**(values | changes))


def marker(number: int) -> str:
    return f"valve-{number:03d}."


def make_nodes(count: int) -> list[SourceNode]:
    texts = [f"The duty engineer oils {marker(i)} Twice a {'year' * i}." for i in range(count)]
    return [SourceNode(digest_of(text)[:32], text, "Valves", "", True) for text in texts]


def run(
    nodes: list[SourceNode], settings: LLMGenerator, store: ArtifactStore, publish: str = ""
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Write questions in a fresh workspace, as a run of the asset does."""
    with store.staging("train_qa_pairs") as folder:
        work = Workspace(store, "train_qa_pairs", folder)
        drafts = write_questions(nodes, settings, ComputeSettings(), work)
        if publish:
            shutil.copytree(folder, store.artifact_path("train_qa_pairs", publish))
            work.published()
    return {node: [d.question for d in found] for node, found in drafts.items()}, work.counts


def rows_on_disk(store: ArtifactStore) -> list[dict[str, Any]]:
    return [
        row for path in store.root.rglob("*.parquet") for row in pq.read_table(path).to_pylist()
    ]


def test_questions_come_back_parsed(server: OpenAIServer, store: ArtifactStore) -> None:
    server.default = say(
        "Sure! Here are two questions:\n\n1. **Who oils the valve?**\n2. How often is it oiled?\n\n"
        "I hope this helps."
    )
    nodes = make_nodes(3)
    questions, counts = run(nodes, endpoint(server), store)
    assert questions == {
        n.node_id: ["Who oils the valve?", "How often is it oiled?"] for n in nodes
    }
    assert counts["llm_calls"] == 3
    assert counts["prompt_tokens"] == 21
    assert counts["completion_tokens"] == 15
    assert "llm_failures" not in counts


def test_the_request_holds_the_nodes_text_the_model_and_the_key(
    server: OpenAIServer, store: ArtifactStore
) -> None:
    [node] = make_nodes(1)
    run([node], endpoint(server), store)
    [request] = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.authorization == f"Bearer {KEY}"
    assert request.body["model"] == "scripted"
    assert node.text in request.prompt
    assert request.prompt == build_prompt(node, 2)
    assert request.prompt.startswith("Valves\n\n")


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_without_its_own_key_a_server_is_not_sent_another_one(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai-only")
    if value is None:
        monkeypatch.delenv(KEY_ENV)
    else:
        monkeypatch.setenv(KEY_ENV, value)
    assert EndpointModel(endpoint(server)).ask(["Hello?"], [1])[0] is not None
    assert server.requests[0].authorization == "Bearer none"


def test_a_key_read_with_its_line_break_still_works(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_ENV, f"{KEY}\n")
    server.key = KEY
    assert EndpointModel(endpoint(server)).ask(["Hello?"], [1])[0] is not None


SHAPES: dict[str, object] = {
    "list": [1, 2],
    "null": None,
    "text": "What?",
    "error": {"error": "overloaded"},
    "no choices": {"choices": []},
    "choices is null": {"choices": None},
    "choice is text": {"choices": ["What?"]},
    "no message": {"choices": [{"index": 0}]},
    "content is a list": {"choices": [{"message": {"role": "assistant", "content": [{"a": 1}]}}]},
    "unknown role": {"choices": [{"message": {"role": "oracle", "content": "What?"}}]},
}
PASSING = {
    "429": fail(429),
    "429 with Retry-After": fail(429, retry_after="0"),
    "429 with a strange Retry-After": fail(429, retry_after="²"),
    "429 with a negative Retry-After": fail(429, retry_after="-5"),
    "500": fail(500),
    "503 of a proxy": Step(status=503, body=b"<html>down</html>"),
    "closed connection": CLOSE,
    "no JSON": Step(body=b"<html>login</html>"),
    "half JSON": Step(body=b'{"choices": [{"mess'),
    "deep JSON": Step(body=b"[" * 100_000),
    "no UTF-8": Step(body=b"\xff\xfe\x00\x81"),
    "nothing": Step(body=b""),
    **{f"other JSON: {name}": send_json(shape) for name, shape in SHAPES.items()},
}


def test_every_passing_failure_is_retried_and_succeeds(
    server: OpenAIServer, store: ArtifactStore
) -> None:
    nodes = make_nodes(len(PASSING))
    for number, step in enumerate(PASSING.values()):
        server.plan(marker(number), [step])
    questions, counts = run(nodes, endpoint(server, concurrency=len(nodes)), store)
    asked = {name: server.asked(marker(number)) for number, name in enumerate(PASSING)}
    assert asked == dict.fromkeys(PASSING, 2)
    assert all(found == ["What does the node say?"] for found in questions.values())
    assert "llm_failures" not in counts


def test_a_time_out_is_retried(server: OpenAIServer) -> None:
    server.plan("one", [HANG])
    server.plan("two", [DRIP])
    model = EndpointModel(endpoint(server, timeout_seconds=0.7))
    started = time.monotonic()
    replies = model.ask(["one", "two", "three"], [1, 2, 3])
    assert all(replies)
    assert (server.asked("one"), server.asked("two"), server.asked("three")) == (2, 2, 1)
    assert time.monotonic() - started < 6


def test_retry_after_is_waited_for(server: OpenAIServer) -> None:
    soon = datetime.now(timezone.utc) + timedelta(seconds=2)
    server.plan("seconds", [fail(429, retry_after="1")])
    server.plan("fraction", [fail(429, retry_after="0.8")])
    server.plan("date", [fail(503, retry_after=format_datetime(soon, usegmt=True))])
    server.plan("nothing", [fail(429)])
    prompts = ["seconds", "fraction", "date", "nothing"]
    assert all(EndpointModel(endpoint(server)).ask(prompts, [1, 2, 3, 4]))
    waits = {
        prompt: round(last - first, 3)
        for prompt in prompts
        for first, last in [[r.at for r in server.requests if r.prompt == prompt]]
    }
    assert waits["seconds"] >= 1.0
    assert waits["fraction"] >= 0.8
    assert waits["date"] > waits["nothing"]  # a date is in whole seconds: 1 to 2 from now
    assert 0.2 <= waits["nothing"] < waits["seconds"]


def test_strange_answers_are_answers(server: OpenAIServer, store: ArtifactStore) -> None:
    odd_usage = {"prompt_tokens": "many", "completion_tokens": 10**30, "total_tokens": -1}
    answers = {
        "empty": (say(""), []),
        "null": (say(None), []),
        "no question": (say("I cannot help with that."), []),
        "usage": (say("Who oils it?", usage=odd_usage), ["Who oils it?"]),
        "half a character": (say("Who \ud83d oils it?"), ["Who  oils it?"]),
        "zero byte": (say("Who\x00 oils it?"), ["Who\x00 oils it?"]),
        "thinking": (say("<think>Is it oil?\nMaybe?</think>\nWho oils it?"), ["Who oils it?"]),
    }
    nodes = make_nodes(len(answers))
    for number, (step, _) in enumerate(answers.values()):
        server.plan(marker(number), [step])
    questions, counts = run(nodes, endpoint(server), store)
    found = dict(zip(answers, (questions[node.node_id] for node in nodes)))
    assert found == {name: expected for name, (_, expected) in answers.items()}
    assert "llm_failures" not in counts
    run(nodes, endpoint(server), store)
    assert len(server.requests) == len(nodes)  # they were answered: nobody is asked again


@pytest.mark.parametrize(
    ("line", "question"),
    [
        ("1. Who oils it?", "Who oils it?"),
        ("(2) Who oils it?", "Who oils it?"),
        ("- **Who oils it?**", "Who oils it?"),
        ("**3. Who oils it?**", "Who oils it?"),
        ("**Question 1**: Who oils it?", "Who oils it?"),
        ("**Q1:** Who oils it?", "Who oils it?"),
        ("### 1. Who oils it?", "Who oils it?"),
        ('"Who oils it?"', "Who oils it?"),
        ("1) 谁给阀门上油？", "谁给阀门上油？"),
        ("Q-learning is what?", "Q-learning is what?"),
        ("2024: who oiled it?", "2024: who oiled it?"),
    ],
)
def test_a_line_is_stripped_of_its_decoration_only(line: str, question: str) -> None:
    assert parse_questions(f"Of course:\n{line}\nAnything else.", 2) == [question]


def test_only_failed_nodes_are_asked_again(server: OpenAIServer, store: ArtifactStore) -> None:
    nodes = make_nodes(8)
    failures = {1: fail(500), 3: fail(403), 4: CLOSE, 6: send_json({"choices": []})}
    for number, step in failures.items():
        server.plan(marker(number), repeat(step))
    settings = endpoint(server, batch_size=1, concurrency=4)
    questions, counts = run(nodes, settings, store, "first")
    assert counts["llm_calls"] == 8
    assert counts["llm_failures"] == 4
    assert [server.asked(marker(i)) for i in range(8)] == [1, 2, 1, 1, 2, 1, 2, 1]
    assert [len(questions[node.node_id]) for node in nodes] == [1, 0, 1, 0, 0, 1, 0, 1]
    assert len(rows_on_disk(store)) == 4

    server.requests.clear()
    server.script = {marker(3): repeat(fail(403))}  # still: one node alone, and it cannot be asked
    questions, counts = run(nodes, settings, store)  # staged
    assert counts["llm_calls"] == 4
    assert counts["llm_failures"] == 1
    assert counts["rows_reused"] == 4
    assert [server.asked(marker(i)) for i in range(8)] == [0, 1, 0, 1, 1, 0, 1, 0]

    server.requests.clear()
    questions, counts = run(nodes, settings, store, "third")
    assert counts["llm_failures"] == 1  # nobody else to ask: still no reason to end the run
    assert [server.asked(marker(i)) for i in range(8)] == [0, 0, 0, 1, 0, 0, 0, 0]

    server.requests.clear()
    server.script = {}
    questions, counts = run(nodes, settings, store, "fourth")
    assert "llm_failures" not in counts
    assert [server.asked(marker(i)) for i in range(8)] == [0, 0, 0, 1, 0, 0, 0, 0]
    assert all(questions.values())


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_prompt_is_answered_once_and_for_all(
    server: OpenAIServer, store: ArtifactStore, status: int
) -> None:
    nodes = make_nodes(3)
    server.plan(marker(1), repeat(fail(status)))
    for publish in ("", "first"):
        questions, counts = run(nodes, endpoint(server), store, publish)
        assert [len(questions[node.node_id]) for node in nodes] == [1, 0, 1]
        assert "llm_failures" not in counts
    assert counts["rows_reused"] == 3
    assert [server.asked(marker(i)) for i in range(3)] == [1, 1, 1]


def test_refusals_alone_are_final_where_the_server_answers_a_plain_prompt(
    server: OpenAIServer,
) -> None:
    server.plan("long", repeat(fail(400)))
    server.plan("down", repeat(fail(500)))
    model = EndpointModel(endpoint(server))
    assert model.ask(["long", "down"], [1, 2]) == [Reply("", 0, 0), None]
    assert server.asked("tea") == 1


def test_a_server_that_refuses_everything_is_one_clear_line(
    server: OpenAIServer, store: ArtifactStore
) -> None:
    server.default = fail(400)
    with pytest.raises(RagftError, match=r"answered none of 2 requests \(HTTP 400\)"):
        run(make_nodes(2), endpoint(server), store)
    assert rows_on_disk(store) == []


def test_a_model_can_be_asked_where_a_loop_runs(server: OpenAIServer) -> None:
    model = EndpointModel(endpoint(server))

    async def notebook() -> list[Reply | None]:
        return model.ask(["one", "two"], [1, 2])

    assert all(asyncio.run(notebook()))
    server.default = fail(500)
    with pytest.raises(RagftError, match="HTTP 500"):
        asyncio.run(notebook())


def test_pacing_settings_do_not_ask_again(server: OpenAIServer, store: ArtifactStore) -> None:
    nodes = make_nodes(4)
    run(nodes, endpoint(server), store)
    run(nodes, endpoint(server, concurrency=1, max_retries=3, requests_per_minute=9), store)
    assert len(server.requests) == 4
    run(nodes, endpoint(server, questions_per_node=3), store)
    assert len(server.requests) == 8


def test_a_wrong_key_is_one_clear_line(
    server: OpenAIServer, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = KEY
    monkeypatch.setenv(KEY_ENV, "sk-wrong-key")
    with pytest.raises(RagftError) as caught:
        run(make_nodes(5), endpoint(server), store)
    text = str(caught.value)
    assert "\n" not in text
    assert server.url in text
    assert f"${KEY_ENV}" in text
    assert "HTTP 401" in text
    assert not isinstance(caught.value, TransientError)  # another try cannot help
    assert "sk-wrong-key" not in text
    assert len(server.requests) <= 6  # a refusal is not repeated
    assert rows_on_disk(store) == []

    monkeypatch.setenv(KEY_ENV, KEY)
    _, counts = run(make_nodes(5), endpoint(server), store)
    assert "llm_failures" not in counts


def test_a_server_that_is_not_there_is_one_clear_line(
    server: OpenAIServer, store: ArtifactStore
) -> None:
    settings = endpoint(server, base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(
        RagftError, match=r"^questions: http://127\.0\.0\.1:9/v1 answered none of 2"
    ):
        run(make_nodes(2), settings, store)


def test_credentials_in_a_base_url_are_not_shown() -> None:
    url = "http://me:s3cret-word@127.0.0.1:9/v1?key=abc12345"
    settings = LLMGenerator(model="any", base_url=url, max_retries=0)
    with pytest.raises(RagftError, match=r"^questions: http://127\.0\.0\.1:9/v1 ") as caught:
        EndpointModel(settings).ask(["Hello?"], [1])
    assert "s3cret-word" not in str(caught.value)
    assert "abc12345" not in str(caught.value)


def test_an_outage_ends_the_run_and_keeps_what_was_answered(
    server: OpenAIServer, store: ArtifactStore
) -> None:
    nodes = make_nodes(6)
    for number in (2, 3):
        server.plan(marker(number), repeat(fail(503)))
    server.plan("tea", repeat(fail(503)))  # the plain request that follows
    settings = endpoint(server, batch_size=1, concurrency=2)
    with pytest.raises(TransientError, match="HTTP 503"):
        run(nodes, settings, store)
    assert server.asked(marker(4)) == 0
    server.script = {}
    _, counts = run(nodes, settings, store)
    assert counts["rows_reused"] == 2
    assert [server.asked(marker(i)) for i in range(6)] == [1, 1, 3, 3, 1, 1]


def test_the_key_is_in_no_file(server: OpenAIServer, store: ArtifactStore) -> None:
    server.key = KEY
    server.plan(marker(1), repeat(fail(403)))
    run(make_nodes(3), endpoint(server), store, "kept")
    run(make_nodes(4), endpoint(server), store)  # leaves a staged row
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert {path.parent.parent.name for path in files} == {"train_qa_pairs", "rows"}
    assert all(KEY.encode() not in path.read_bytes() for path in files)
    assert KEY not in repr(rows_on_disk(store))  # the files are compressed
    assert all(KEY not in str(path) for path in files)


def test_concurrency_is_used_and_never_exceeded(server: OpenAIServer, store: ArtifactStore) -> None:
    server.think_seconds = 0.05
    server.plan(marker(2), [fail(500)])
    run(make_nodes(18), endpoint(server, concurrency=3, batch_size=2), store)
    assert len(server.requests) == 19
    assert server.peak == 3


def test_requests_per_minute_holds_across_batches_and_retries(
    server: OpenAIServer, store: ArtifactStore
) -> None:
    server.plan(marker(5), [fail(429, retry_after="0")])
    settings = endpoint(server, requests_per_minute=1200, concurrency=4, batch_size=1)
    run(make_nodes(9), settings, store)
    times = [request.at for request in server.requests]
    assert len(times) == 10
    assert times[-1] - times[0] >= 0.4  # 9 gaps of 0.05 s, less what the first was late


KILLED_RUN = """
import sys
from ragft_pipeline.settings import LLMGenerator
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.questions.test_endpoint import make_nodes, run

run(make_nodes(6), LLMGenerator.model_validate_json(sys.argv[1]), ArtifactStore(sys.argv[2]))
"""


def test_a_killed_run_keeps_its_finished_batches(
    server: OpenAIServer, store: ArtifactStore
) -> None:
    settings = endpoint(server, batch_size=1, concurrency=2, timeout_seconds=60)
    server.plan(marker(4), [HANG])
    command = [sys.executable, "-c", KILLED_RUN, settings.model_dump_json(), str(store.root)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env=dict(os.environ))
    try:
        server.wait_for(marker(4))
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(rows_on_disk(store)) == 4

    server.requests.clear()
    questions, counts = run(make_nodes(6), settings, store)
    assert counts["rows_reused"] == 4
    assert [server.asked(marker(i)) for i in range(6)] == [0, 0, 0, 0, 1, 1]
    assert all(questions.values())
