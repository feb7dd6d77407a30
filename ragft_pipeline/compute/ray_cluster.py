"""The Ray cluster that the settings name: joining it, and the room it has."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from ragft_pipeline.errors import RagftError, TransientError, one_line, redacted
from ragft_pipeline.settings import RaySettings

_PATIENCE = 5.0  # seconds in which the actors of the map before give back what they held


def cluster_address(settings: RaySettings) -> str:
    """Return the cluster to join: `address`, else $RAY_ADDRESS; empty for one of our own."""
    return settings.address or os.environ.get("RAY_ADDRESS", "")


def ray_is_missing(error: ImportError) -> RagftError:
    """Return what to say where a part of the extra `ray` cannot be imported."""
    return RagftError(
        f"compute.runner = ray needs the extra `ray` ({one_line(error)}): "
        "pip install 'ragft-pipeline[ray]'"
    )


def connect(settings: RaySettings) -> Any:
    """Return the module `ray`, joined to the cluster; where none is named one is started here.

    Raises RagftError where Ray is not installed, TransientError where the cluster cannot be
    reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ray_is_missing(error) from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        return ray
    address = cluster_address(settings)
    own = {} if address else {"include_dashboard": False}
    try:
        ray.init(
            address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **own
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise TransientError(
            f"compute.ray.address {redacted(address)!r}: no Ray cluster there: {one_line(error)}"
        ) from None
    return ray


def free_slots(ray: Any, settings: RaySettings) -> int:
    """Return how many actors of the map fit into the cluster now, beside what holds it."""
    deadline = time.monotonic() + _PATIENCE
    while not (slots := _slots(ray.available_resources(), settings)):
        if time.monotonic() > deadline:
            return 0
        time.sleep(0.2)
    return slots


def all_slots(ray: Any, settings: RaySettings) -> int:
    """Return how many processes of that kind fit into the whole cluster, were it free."""
    return sum(_slots(node["Resources"], settings) for node in ray.nodes() if node["Alive"])


def _slots(resources: dict[str, float], settings: RaySettings) -> int:
    slots = int(resources.get("CPU", 0.0) // settings.cpus)
    if settings.gpus:
        slots = min(slots, int(resources.get("GPU", 0.0) // settings.gpus))
    return slots
