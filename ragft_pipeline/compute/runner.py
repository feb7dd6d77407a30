"""Who runs a map or a training: this process, or Ray, as the settings say."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from ragft_pipeline.compute.mapping import BatchMap, map_here
from ragft_pipeline.compute.training import Report, Training
from ragft_pipeline.settings import ComputeSettings

Result = TypeVar("Result")


def open_map(compute: ComputeSettings) -> BatchMap:
    """Return the map that the settings name; Ray is imported when it has something to do."""
    if compute.runner == "local":
        return map_here
    from ragft_pipeline.compute.ray_map import RayMap

    return RayMap(compute.ray)


def run_training(
    training: Training[Result], compute: ComputeSettings, report: Report, folder: Path
) -> Result:
    """Run a training where the settings say, and return what it returns.

    Args:
        folder: every node of a cluster that trains sees it.

    Raises what the training raises, and TransientError where Ray gives up.
    """
    if compute.runner == "local" or compute.ray.trainers == 1:
        return training(report)
    from ragft_pipeline.compute.ray_training import train_on_ray

    return train_on_ray(training, compute.ray, report, folder)
