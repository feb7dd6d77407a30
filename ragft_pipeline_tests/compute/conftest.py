"""A Ray cluster of two nodes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ragft_pipeline.settings import ComputeSettings, RaySettings

NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        nodes.add_node(**NODE)
        nodes.wait_for_nodes()
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture
def two_nodes(cluster: Any) -> Any:
    """The cluster, with the second node that an earlier test may have taken away."""
    if not cluster.worker_nodes:
        cluster.add_node(**NODE)
        cluster.wait_for_nodes()
    return cluster


@pytest.fixture
def on_ray(two_nodes: Any) -> ComputeSettings:
    ray = RaySettings(address=two_nodes.address, min_seconds=0)
    return ComputeSettings(runner="ray", ray=ray)
