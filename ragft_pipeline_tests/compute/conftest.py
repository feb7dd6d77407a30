"""A Ray cluster of two nodes on this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from ragft_pipeline.settings import ComputeSettings, RaySettings

NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    try:
        add_node(nodes, include_dashboard=True, dashboard_port=free_port())  # it takes jobs
        add_node(nodes)
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


def add_node(nodes: Any, **settings: object) -> None:
    """Add a node; Ray gives one half a minute, which on a busy machine may not be enough."""
    for _ in range(4):
        try:
            nodes.add_node(**NODE, **settings)
            nodes.wait_for_nodes()
            return
        except Exception as error:
            reason = error
    raise reason


@pytest.fixture
def two_nodes(cluster: Any) -> Any:
    """The cluster, with the second node that an earlier test may have taken away."""
    if not cluster.worker_nodes:
        add_node(cluster)
    return cluster


@pytest.fixture
def on_ray(two_nodes: Any) -> ComputeSettings:
    ray = RaySettings(address=two_nodes.address, min_seconds=0)
    return ComputeSettings(runner="ray", ray=ray)
