"""Fine-tuning jobs at a service that speaks OpenAI's API: uploaded, started once, followed.

A job costs money, so one training action never starts two: its id is written into the store the
moment it is known. Where no id was written, the service is asked for a job with the action's key in
its metadata, or over the action's file, whose name carries the key. One process at a time starts,
and one machine.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragft_pipeline.answering.chats import CHATS_FILE
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError, TransientError, one_line, redacted
from ragft_pipeline.questions.endpoint import wait_before_retry
from ragft_pipeline.settings import HostedTraining, ServedModel, Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.store.files import json_bytes, write_json

if TYPE_CHECKING:
    from filelock import FileLock
    from openai import OpenAI

JOB_FILE = "job.json"
_KEY = "ragft_action"
_FOLDER = "hosted_jobs"  # of the store: the job of each action
_DEAD = ("failed", "cancelled")
_DONE = ("succeeded", *_DEAD)
_TRIES = 5  # of a request whose answer was lost, or that was one too many
_STARTING = 900.0  # seconds in which whoever starts a job has written its id, or died
_PASSING = (408, 409, 425, 429)  # status codes below 500 that say: later
_NO_MONEY = "insufficient_quota"  # the 429 that no waiting helps


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
    service = FineTuningService(recipe.hosted, work.store, work.progress)
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
    """A service and its credentials, which come from the environment only.

    Args:
        store: where the id of each action's job is written.
        report: is told how it goes.
    """

    def __init__(
        self, settings: HostedTraining, store: ArtifactStore, report: Callable[[str], None]
    ) -> None:
        from openai import OpenAI

        self._settings = settings
        self._store = store
        self._report = report
        self._key = os.environ.get(settings.api_key_env, "").strip() or "none"
        self._client: OpenAI = OpenAI(
            base_url=settings.base_url,
            api_key=self._key,
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
        with self._alone(action):
            written = self._written(action)
            job = written
            if job is None or job.status in _DEAD:
                job = self._listed(action, self._files(action, "train"))
            if job is None:
                self._claim(action, written)
                job = self._start(action, train, val, parameters, written)
            else:
                self._report(f"tuned_llm: going on with job {job.id}, {job.status}")
            self._write(action, job)
        return self._follow(job)

    def _alone(self, action: str) -> FileLock:
        """Return the lock of an action: of two processes, the second finds the first one's job."""
        from filelock import FileLock

        folder = self._store.root / _FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{action}.lock")

    def _claim(self, action: str, dead: Any | None) -> None:
        """Say that this machine starts a job; those that share a store by URL have no lock.

        Args:
            dead: the job of this action that failed, if one did.

        Raises TransientError where another machine said so and may be about to.
        """
        after = digest_of(dead.id if dead else "")[:16]
        name = f"{_FOLDER}/{action}-after-{after}.json"
        own = {"machine": platform.node(), "when": time.time()}
        if self._store.records.create(name, json_bytes(own)):
            return
        first = json.loads(self._store.records.read(name) or json_bytes(own))
        if first["machine"] != own["machine"] and time.time() - first["when"] < _STARTING:
            raise TransientError(
                f"tuned_llm: {first['machine']} is starting this job: run again in a few minutes"
            )

    def _written(self, action: str) -> Any | None:
        """Return the job whose id was written, as it is now; None where the service has none."""
        from openai import NotFoundError

        written = self._store.records.read(f"{_FOLDER}/{action}.json")
        if written is None:
            return None
        job_id = str(json.loads(written)["job_id"])
        return self._asked(lambda: self._client.fine_tuning.jobs.retrieve(job_id), NotFoundError)

    def _write(self, action: str, job: Any) -> None:
        self._store.records.write(f"{_FOLDER}/{action}.json", json_bytes({"job_id": job.id}))

    def _listed(self, action: str, files: Collection[str]) -> Any | None:
        """Return the job of an action that ended well or may yet, if the service lists one.

        Args:
            files: ids of the action's training file; some services give no metadata back.
        """
        jobs = self._asked(lambda: list(_each(self._client.fine_tuning.jobs.list(limit=100))))
        alive = [
            job
            for job in jobs
            if job.status not in _DEAD
            and ((job.metadata or {}).get(_KEY) == action or job.training_file in files)
        ]
        return max(alive, key=lambda job: (job.status == "succeeded", job.created_at), default=None)

    def _files(self, action: str, name: str) -> list[str]:
        """Return the ids under which the service has a file of an action."""
        files = self._asked(lambda: list(_each(self._client.files.list(purpose="fine-tune"))))
        named = [one for one in files if one.filename == _filename(action, name)]
        return [str(one.id) for one in named if one.status != "error"]

    def _sent(self, action: str, name: str, path: Path) -> str:
        """Return the id of an uploaded file; one that is there already is not sent again."""

        def send() -> str:
            if known := self._files(action, name):
                return known[0]
            with path.open("rb") as file:
                sent = self._client.files.create(
                    file=(_filename(action, name), file), purpose="fine-tune"
                )
            return str(sent.id)

        return str(self._asked(send))

    def _start(
        self,
        action: str,
        train: Path,
        val: Path | None,
        parameters: dict[str, Any],
        dead: Any | None,
    ) -> Any:
        """Start a job. Where its answer is lost, the job is looked for before another try.

        Args:
            dead: the job of this action that failed, if one did.
        """
        named: dict[str, Any] = {"training_file": self._sent(action, "train", train)}
        if val is not None:
            named["validation_file"] = self._sent(action, "val", val)
        for attempt in range(_TRIES):
            job: Any
            try:
                job = self._client.fine_tuning.jobs.create(
                    model=self._settings.model,
                    suffix="ragft",
                    metadata={_KEY: action},
                    extra_headers={"Idempotency-Key": f"{action}-{dead.id if dead else ''}"},
                    **named,
                    **parameters,
                )
            except Exception as error:
                self._bear(error, attempt)
                job = self._listed(action, [named["training_file"]])
            if job is not None:
                self._report(f"tuned_llm: job {job.id} started")
                return job
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
            raise RagftError(f"tuned_llm: job {job.id} {job.status}: {self._quoted(why)}")
        return HostedJob(job.id, job.fine_tuned_model, int(job.trained_tokens or 0))

    def _asked(self, request: Callable[[], Any], missing: type[Exception] | tuple[()] = ()) -> Any:
        """Make a request that may be made twice, again where its answer was lost.

        Args:
            missing: an error that says that there is none: the answer is then None.
        """
        for attempt in range(_TRIES):
            try:
                return request()
            except missing:
                return None
            except Exception as error:
                self._bear(error, attempt)
        raise self._unreachable()

    def _bear(self, error: Exception, attempt: int) -> None:
        """Wait where an error may pass by itself; RagftError where it is final."""
        from openai import APIConnectionError, APIStatusError

        status, asked = 0, ""
        if isinstance(error, APIStatusError):
            status, asked = error.status_code, error.response.headers.get("retry-after", "")
        final = status not in _PASSING and status < 500
        if isinstance(error, APIConnectionError):
            final = False
        if final or getattr(error, "code", None) == _NO_MONEY:
            raise self._refused(error) from None
        pause = min(self._settings.poll_seconds, 0.5 * 2**attempt)
        time.sleep(wait_before_retry(asked, attempt) if asked else pause)

    def _unreachable(self) -> TransientError:
        return TransientError(
            f"tuned_llm.hosted: {redacted(self._settings.base_url)} cannot be reached, or is too "
            "busy: run again; a job that was started goes on and will be found"
        )

    def _quoted(self, said: object) -> str:
        """Return what the service says, as one line without the key and other credentials."""
        return one_line(ValueError(str(said)), self._settings.base_url, [self._key])[:300]

    def _refused(self, error: Exception) -> RagftError:
        status = getattr(error, "status_code", None)
        said = f"HTTP {status}" if status else type(error).__name__
        body = getattr(error, "body", None)
        message = body.get("message", "") if isinstance(body, dict) else ""
        return RagftError(
            f"tuned_llm.hosted: {redacted(self._settings.base_url)} refused ({said}) "
            f"{self._quoted(message) if message else ''}; "
            f"check base_url, model and ${self._settings.api_key_env}"
        )


def _filename(action: str, name: str) -> str:
    return f"ragft-{action[:32]}-{name}.jsonl"


def _each(listing: Iterable[Any]) -> Iterator[Any]:
    """Yield what a service lists, to the end; some begin again where it is."""
    seen: set[str] = set()
    for one in listing:
        if one.id in seen:
            return
        seen.add(one.id)
        yield one
