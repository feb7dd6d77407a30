from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ragft_pipeline.answering.hosted import FineTuningService, HostedJob
from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.settings import HostedTraining
from ragft_pipeline_tests.answering.fine_tuning_server import FineTuningServer, serving

ACTION = "a" * 64
JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FineTuningServer]:
    monkeypatch.setenv("TUNING_KEY", "secret-key")
    with serving() as found:
        yield found


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    file = tmp_path / "chats.jsonl"
    file.write_text('{"messages": []}\n', encoding="utf-8")
    return file


def train(server: FineTuningServer, chats: Path, lines: list[str], **more: float) -> HostedJob:
    settings = HostedTraining.model_validate(
        {
            "base_url": server.url, "model": "small-1", "api_key_env": "TUNING_KEY",
            "poll_seconds": 0.01, "timeout_seconds": 5, **more,
        }
    )  # fmt: skip
    service = FineTuningService(settings, lines.append)
    return service.train(ACTION, chats, chats, {"hyperparameters": {"n_epochs": 2}, "seed": 13})


def test_a_job_is_started_with_its_files_and_followed_to_its_end(
    server: FineTuningServer, chats: Path
) -> None:
    lines: list[str] = []
    job = train(server, chats, lines)
    assert job == HostedJob("ftjob-1", "ft:small-1:ftjob-1", 1234)
    sent = server.jobs["ftjob-1"]
    assert sent["metadata"] == {"ragft_action": ACTION}
    assert {sent["training_file"], sent["validation_file"]} == set(server.files)
    assert all(chats.read_bytes() in file["content"] for file in server.files.values())
    assert "secret-key" not in "".join(lines)


def test_a_finished_job_is_found_again_and_nothing_is_started(
    server: FineTuningServer, chats: Path
) -> None:
    first = train(server, chats, [])
    assert train(server, chats, []) == first
    assert len(server.jobs) == 1
    assert len(server.files) == 2


def test_a_lost_answer_to_the_start_starts_no_second_job(
    server: FineTuningServer, chats: Path
) -> None:
    lost = iter([0])
    server.lose = lambda method, path: (
        next(lost, None) if (method, path) == ("POST", JOBS) else None
    )
    assert train(server, chats, []).job_id == "ftjob-1"
    assert len(server.jobs) == 1


def test_an_interrupted_run_goes_on_following_its_job(
    server: FineTuningServer, chats: Path
) -> None:
    server.statuses = ["queued", "running"]
    with pytest.raises(TransientError, match="is running after"):
        train(server, chats, [], max_hours=0.0001)
    server.statuses = ["queued", "running", "succeeded"]
    lines: list[str] = []
    assert train(server, chats, lines).job_id == "ftjob-1"
    assert lines[0] == "tuned_llm: going on with job ftjob-1, running"
    assert len(server.jobs) == 1


def test_lost_connections_while_following_are_borne(server: FineTuningServer, chats: Path) -> None:
    drops = iter([0, None, 500, None])
    server.refuse = lambda method, path: next(drops, None) if path.startswith(f"{JOBS}/") else None
    assert train(server, chats, []).model == "ft:small-1:ftjob-1"


def test_a_failed_job_says_why_and_the_next_run_starts_another(
    server: FineTuningServer, chats: Path
) -> None:
    server.statuses = ["queued", "failed"]
    with pytest.raises(RagftError, match="job ftjob-1 failed: the file has bad rows"):
        train(server, chats, [])
    server.statuses = ["queued", "succeeded"]
    assert train(server, chats, []).job_id == "ftjob-2"


def test_a_rejected_file_is_a_clear_error(server: FineTuningServer, chats: Path) -> None:
    server.refuse = lambda method, path: 400 if (method, path) == ("POST", "/v1/files") else None
    with pytest.raises(RagftError, match=r"refused \(HTTP 400\) scripted refusal") as caught:
        train(server, chats, [])
    assert "secret-key" not in str(caught.value)
    assert not server.jobs


def test_a_wrong_key_is_a_clear_error(
    server: FineTuningServer, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNING_KEY", "another")
    with pytest.raises(RagftError, match=r"HTTP 401.*check base_url, model and \$TUNING_KEY"):
        train(server, chats, [])


def test_a_service_that_cannot_be_reached_is_worth_another_try(
    server: FineTuningServer, chats: Path
) -> None:
    server.refuse = lambda method, path: 0
    with pytest.raises(TransientError, match="cannot be reached: run again"):
        train(server, chats, [])
