from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ragft_pipeline.answering import hosted
from ragft_pipeline.answering.hosted import FineTuningService, HostedJob
from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.settings import HostedTraining
from ragft_pipeline.store import ArtifactStore
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
    service = FineTuningService(settings, ArtifactStore(chats.parent / "store"), lines.append)
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
    assert lines[0].startswith("tuned_llm: going on with job ftjob-1, ")
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
    with pytest.raises(TransientError, match="cannot be reached, or is too busy: run again"):
        train(server, chats, [])


def forget(chats: Path) -> None:
    """Lose what was written of jobs, as a process does that dies before it writes."""
    shutil.rmtree(chats.parent / "store")


def test_a_service_without_metadata_is_asked_for_one_job(
    server: FineTuningServer, chats: Path
) -> None:
    server.tells_metadata = False
    first = train(server, chats, [])
    assert train(server, chats, []) == first  # by the id that was written
    forget(chats)
    assert train(server, chats, []) == first  # by its file
    server.files.clear()
    assert train(server, chats, []) == first
    assert len(server.jobs) == 1


def test_of_all_jobs_of_an_action_the_one_that_lives_is_followed(
    server: FineTuningServer, chats: Path
) -> None:
    first = train(server, chats, [])
    duplicate = {**server.jobs["ftjob-1"], "id": "ftjob-2", "created_at": 5, "status": "cancelled"}
    server.jobs["ftjob-2"] = duplicate
    forget(chats)
    assert train(server, chats, []) == first
    assert len(server.jobs) == 2


def test_a_listing_need_not_begin_with_the_newest(server: FineTuningServer, chats: Path) -> None:
    server.oldest_first = True
    server.statuses = ["failed"]
    with pytest.raises(RagftError, match="job ftjob-1 failed"):
        train(server, chats, [])
    server.statuses = ["queued", "succeeded"]
    second = train(server, chats, [])
    forget(chats)
    assert train(server, chats, []) == second
    assert len(server.jobs) == 2


def test_processes_that_start_at_once_start_one_job(server: FineTuningServer, chats: Path) -> None:
    server.tells_metadata = False
    together = threading.Barrier(2, timeout=30)

    def start(_: int) -> HostedJob:
        together.wait()
        return train(server, chats, [])

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(start, range(2))
    assert first == second
    assert len(server.jobs) == 1


def test_machines_that_share_a_store_start_one_job(
    server: FineTuningServer, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(hosted.platform, "node", lambda: "elsewhere")
        server.refuse = lambda method, path: 400 if (method, path) == ("POST", JOBS) else None
        with pytest.raises(RagftError, match="HTTP 400"):
            train(server, chats, [])
    server.refuse = lambda method, path: None
    with pytest.raises(TransientError, match="elsewhere is starting this job"):
        train(server, chats, [])
    assert not server.jobs
    monkeypatch.setattr(hosted, "_STARTING", 0.0)  # as after a quarter of an hour
    assert train(server, chats, []).job_id == "ftjob-1"


def test_a_service_that_is_busy_for_a_moment_is_asked_again(
    server: FineTuningServer, chats: Path
) -> None:
    busy = iter([429, 409])
    server.refuse = lambda method, path: (
        next(busy, None) if (method, path) == ("POST", JOBS) else None
    )
    assert train(server, chats, []).job_id == "ftjob-1"
    assert len(server.jobs) == 1


def test_a_key_that_the_service_repeats_is_not_passed_on(
    server: FineTuningServer, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.statuses = ["queued", "failed"]
    server.why = f"no quota left for {server.key}"
    with pytest.raises(RagftError, match="job ftjob-1 failed: no quota left for …"):
        train(server, chats, [])
    monkeypatch.setenv("TUNING_KEY", "another-key")
    with pytest.raises(RagftError, match="Incorrect API key provided: …"):
        train(server, chats, [])
