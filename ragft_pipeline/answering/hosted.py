"""Fine-tuning jobs at a service that speaks OpenAI's API: uploaded, started once, followed.

A job costs money, so one training action never starts two: the job carries the action's key in its
metadata and its file's name, and before anything is started the service is asked for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragft_pipeline.answering.chats import CHATS_FILE
from ragft_pipeline.errors import RagftError, TransientError, one_line, redacted
from ragft_pipeline.settings import HostedTraining, ServedModel, Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.store.files import write_json

if TYPE_CHECKING:
    from openai import OpenAI

JOB_FILE = "job.json"
_KEY = "ragft_action"
_DONE = ("succeeded", "failed", "cancelled")
_TRIES = 5  # of a request whose connection was lost
_MOST_LISTED = 1000


@dataclass(frozen=True)
class HostedJob:
    """A finished job: what the service calls the tuned model, and what it cost."""

    job_id: str
    model: str
    trained_tokens: int


def tune_at_service(
    action: str, train: Path, val: Path, settings: Settings, work: Workspace
) -> dict[str, Any]:
    """Tune by a job at the service of `tuned_llm.hosted`, and record it in the model folder.

    Args:
        action: the asset's action key.
        train, val: folders of the chats' artifacts.
    """
    recipe = settings.tuned_llm
    assert recipe.hosted is not None
    lines = {name: folder / CHATS_FILE for name, folder in (("train", train), ("val", val))}
    if not lines["train"].stat().st_size:
        raise RagftError("tuned_llm: there is no chat to train on; see chats.* in ragft.yaml")
    service = FineTuningService(recipe.hosted, work.progress)
    job = service.train(
        action,
        lines["train"],
        lines["val"] if lines["val"].stat().st_size else None,
        {"hyperparameters": {"n_epochs": max(1, round(recipe.epochs))}, "seed": recipe.seed},
    )
    work.model.mkdir(parents=True, exist_ok=True)
    write_json(work.model / JOB_FILE, asdict(job))
    return {
        "hosted_job": job.job_id,
        "hosted_model": job.model,
        "trained_tokens": job.trained_tokens,
    }


def served_models(hosted: HostedTraining, tuned: str) -> tuple[ServedModel, ServedModel]:
    """Return the service's base model and a tuned one, to ask them both."""
    named: dict[str, Any] = {
        "base_url": hosted.base_url,
        "api_key_env": hosted.api_key_env,
        "timeout_seconds": hosted.timeout_seconds,
    }
    return ServedModel(model=hosted.model, **named), ServedModel(model=tuned, **named)


class FineTuningService:
    """A service and its credentials, which come from the environment only."""

    def __init__(self, settings: HostedTraining, report: Callable[[str], None]) -> None:
        from openai import OpenAI

        self._settings = settings
        self._report = report
        key = os.environ.get(settings.api_key_env, "").strip() or "none"
        self._client: OpenAI = OpenAI(
            base_url=settings.base_url,
            api_key=key,
            max_retries=0,  # a lost answer may have started a job: it is looked for, below
            timeout=settings.timeout_seconds,
        )

    def train(
        self, action: str, train: Path, val: Path | None, parameters: dict[str, Any]
    ) -> HostedJob:
        """Return the job of an action: the one that ran, the one that runs, or a new one.

        Args:
            action: the key of all that shapes the result.
            train, val: chats as JSON lines.
            parameters: `n_epochs` and the like, and `seed`.

        Raises RagftError where the service refuses the file or the job fails, TransientError where
        it cannot be reached or is not done in `max_hours`: the next run goes on following.
        """
        job = self._find(action)
        if job is None or job.status in ("failed", "cancelled"):
            seen = job.id if job else ""
            files = [
                self._upload(action, name, path)
                for name, path in (("train", train), ("val", val))
                if path
            ]
            job = self._start(action, files, parameters, seen)
            self._report(f"tuned_llm: job {job.id} started")
        else:
            self._report(f"tuned_llm: going on with job {job.id}, {job.status}")
        return self._follow(job)

    def _find(self, action: str) -> Any | None:
        """Return the action's newest job, if the service has one."""

        def search() -> Any | None:
            for job, _ in zip(self._jobs(), range(_MOST_LISTED)):
                if (job.metadata or {}).get(_KEY) == action:
                    return job
            return None

        return self._asked(search)

    def _jobs(self) -> Iterable[Any]:
        return self._client.fine_tuning.jobs.list(limit=100)

    def _upload(self, action: str, name: str, path: Path) -> str:
        """Return the id of an uploaded file; one that is there already is not sent again."""
        filename = f"ragft-{action[:32]}-{name}.jsonl"

        def send() -> str:
            for known, _ in zip(self._client.files.list(purpose="fine-tune"), range(_MOST_LISTED)):
                if known.filename == filename and known.status != "error":
                    return str(known.id)
            with path.open("rb") as file:
                sent = self._client.files.create(file=(filename, file), purpose="fine-tune")
            return str(sent.id)

        return str(self._asked(send))

    def _start(self, action: str, files: list[str], parameters: dict[str, Any], seen: str) -> Any:
        """Start a job. Where its answer is lost, the job is looked for before another try."""
        from openai import APIConnectionError, InternalServerError

        named: dict[str, Any] = {"training_file": files[0]}
        if len(files) > 1:
            named["validation_file"] = files[1]
        for attempt in range(_TRIES):
            try:
                return self._client.fine_tuning.jobs.create(
                    model=self._settings.model,
                    suffix="ragft",
                    metadata={_KEY: action},
                    extra_headers={"Idempotency-Key": f"{action}-{seen}"},
                    **named,
                    **parameters,
                )
            except (APIConnectionError, InternalServerError):
                self._pause(attempt)
                job = self._find(action)
                if job is not None and job.id != seen:
                    return job
            except Exception as error:
                raise self._refused(error) from None
        raise self._unreachable()

    def _follow(self, job: Any) -> HostedJob:
        deadline = time.monotonic() + 3600 * self._settings.max_hours
        status = ""
        while job.status not in _DONE:
            if job.status != status:
                status = job.status
                self._report(f"tuned_llm: job {job.id} is {status}")
            if time.monotonic() >= deadline:
                raise TransientError(
                    f"tuned_llm: job {job.id} is {status} after {self._settings.max_hours:g} "
                    "hours: run again to go on following it"
                )
            time.sleep(self._settings.poll_seconds)
            name = job.id
            job = self._asked(lambda name=name: self._client.fine_tuning.jobs.retrieve(name))  # type: ignore[misc]
        if job.status != "succeeded" or not job.fine_tuned_model:
            why = getattr(job.error, "message", None) or "no reason given"
            raise RagftError(
                f"tuned_llm: job {job.id} {job.status}: {' '.join(str(why).split())[:300]}"
            )
        return HostedJob(job.id, job.fine_tuned_model, int(job.trained_tokens or 0))

    def _asked(self, request: Callable[[], Any]) -> Any:
        """Make a request that may be made twice, again where the connection was lost."""
        from openai import APIConnectionError, InternalServerError, RateLimitError

        for attempt in range(_TRIES):
            try:
                return request()
            except (APIConnectionError, InternalServerError, RateLimitError):
                self._pause(attempt)
            except Exception as error:
                raise self._refused(error) from None
        raise self._unreachable()

    def _pause(self, attempt: int) -> None:
        time.sleep(min(self._settings.poll_seconds, 0.5 * 2**attempt))

    def _unreachable(self) -> TransientError:
        return TransientError(
            f"tuned_llm.hosted: {redacted(self._settings.base_url)} cannot be reached: run again; "
            "a job that was started goes on and will be found"
        )

    def _refused(self, error: Exception) -> RagftError:
        status = getattr(error, "status_code", None)
        said = f"HTTP {status}" if status else type(error).__name__
        body = getattr(error, "body", None)
        message = body.get("message", "") if isinstance(body, dict) else ""
        return RagftError(
            f"tuned_llm.hosted: {redacted(self._settings.base_url)} refused ({said}) "
            f"{one_line(ValueError(str(message)), self._settings.base_url) if message else ''}; "
            f"check base_url, model and ${self._settings.api_key_env}"
        )
