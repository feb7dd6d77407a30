"""A training in a group of processes on a Ray cluster, by Ray Train."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ragft_pipeline.compute.ray_cluster import all_slots, connect, ray_is_missing
from ragft_pipeline.compute.training import Report, Training, share
from ragft_pipeline.errors import RagftError, TransientError, one_line
from ragft_pipeline.settings import RaySettings

_TRIES = 4  # of a training that loses processes
_SECONDS = 0.5
Result = TypeVar("Result")


def train_on_ray(
    training: Training[Result], settings: RaySettings, report: Report, folder: Path
) -> Result:
    """Run a training in `trainers` processes; return what the first of them returns.

    When a process is lost all of them begin again, from the checkpoint that the training keeps.

    Args:
        folder: all nodes of the cluster see it; what Ray Train writes there is removed.

    Raises RagftError where the cluster will never have room, or as the training does;
    TransientError where Ray gives up.
    """
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    ray = connect(settings)
    if 0 < settings.gpus < 1:
        raise RagftError(
            f"compute.ray.gpus = {settings.gpus:g}: trainers share no GPU; at least 1, or 0"
        )
    if (room := all_slots(ray, settings)) < settings.trainers:
        raise RagftError(
            f"compute.ray.trainers = {settings.trainers}: the cluster has room for {room} that ask "
            f"for {settings.cpus:g} CPUs and {settings.gpus:g} GPUs"
        )
    own = folder / ".ray"
    try:
        for _ in range(_TRIES):
            try:
                return _train_once(ray, training, settings, report, own)
            except _Lost as error:
                report(f"compute: trainers were lost: {error}")
                lost = error
    finally:
        shutil.rmtree(own, ignore_errors=True)
    raise TransientError(f"compute: Ray gave up: {lost}") from lost


class _Lost(Exception):
    """Processes of the group are gone, or were never started."""


def _train_once(
    ray: Any, training: Training[Result], settings: RaySettings, report: Report, folder: Path
) -> Result:
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    except ImportError as error:
        raise ray_is_missing(error) from None
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lines = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    needs = {"CPU": settings.cpus} | ({"GPU": settings.gpus} if settings.gpus else {})
    trainer = TorchTrainer(
        _member(training, lines),
        torch_config=TorchConfig(backend="nccl" if settings.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=settings.trainers,
            use_gpu=bool(settings.gpus),
            resources_per_worker=needs,
        ),
        run_config=RunConfig(
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=_TRIES),
        ),
    )
    errors: list[RagftError] = []
    try:
        with _passing(lines, report, errors):
            result: Result = trainer.fit().return_value
    except (TrainingFailedError, ray.exceptions.RayError) as error:
        if errors:
            raise errors[0] from error
        failures = getattr(error, "worker_failures", {}).values()
        if not failures or any(type(each).__module__.startswith("ray.") for each in failures):
            raise _Lost(one_line(error)) from error
        raise
    finally:
        lines.shutdown(force=True)
    return result


def _member(training: Training[Result], lines: Any) -> Callable[[], Result]:
    """Return what each process of the group runs; the first one's lines go to the step."""

    def member() -> Result:
        first = share()[0] == 0
        try:
            return training(lines.put if first else lambda line: None)
        except RagftError as error:
            lines.put(error)  # Ray would wrap it in its own
            raise

    return member


@contextmanager
def _passing(lines: Any, report: Report, errors: list[RagftError]) -> Iterator[None]:
    """Pass on what the group says while it trains."""
    from ray.exceptions import RayError
    from ray.util.queue import Empty

    done = threading.Event()

    def pass_on() -> None:
        while True:
            try:
                said = lines.get(timeout=_SECONDS)
            except Empty:
                if done.is_set():
                    return
            except RayError:  # with the cluster, the queue is gone
                return
            else:
                if isinstance(said, RagftError):
                    errors.append(said)
                else:
                    with contextlib.suppress(Exception):  # a line that cannot be shown
                        report(said)

    thread = threading.Thread(target=pass_on, name="lines of the training", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
