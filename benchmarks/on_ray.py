"""Does the sample corpus give on Ray what it gives on one machine, though processes are lost?

    python -m benchmarks.on_ray [--documents N] [--trainers N]

The sample is frozen and made up to the evaluation twice, with the settings of ragft.yaml: here, and
on a Ray cluster of two nodes (of this machine, one CPU each). While the passages are encoded there
a node is lost, and another comes later. All rows must have the same keys; values within 1e-5,
metrics within .002. With `--trainers 2` two processes train the embedder and the reranker, and one
of them is killed: a training enlarges rounding, as it does with another number of threads.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.bench_set import make
from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.lineage.steps import Recipe
from ragft_pipeline.settings import ComputeSettings, RaySettings, Settings, load_settings
from ragft_pipeline.store import Artifact, ArtifactStore
from ragft_pipeline_tests.compute.conftest import add_node, free_port
from ragft_pipeline_tests.conftest import SAMPLE, copy_sample

VALUES, METRICS = 1e-5, 0.002
UNORDERED = ("node_ids",)  # of a teacher's list: equal scores may stand in another order


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=0, help="of the sample; 0: all")
    parser.add_argument("--trainers", type=int, default=1)
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    results = Results("ray" if options.trainers == 1 else f"ray-{options.trainers}-trainers")
    with tempfile.TemporaryDirectory() as folder, two_nodes() as nodes:
        corpus = Path(folder) / "corpus"
        if options.documents:
            copy_sample(corpus, options.documents)
        else:
            shutil.copytree(SAMPLE, corpus)
        ray = RaySettings(address=nodes.cluster.address, min_seconds=0, trainers=options.trainers)
        here, seconds = made_with(Path(folder) / "here", corpus, ComputeSettings(), say)
        there, on_ray = made_with(
            Path(folder) / "ray", corpus, ComputeSettings(runner="ray", ray=ray), nodes.watch
        )
        results.add("here", seconds, "s")
        results.add("ray", on_ray, "s")
        results.add("lost/nodes", nodes.lost_nodes, "nodes", at_least=1)
        if options.trainers > 1:
            results.add("lost/trainers", len(nodes.killed), "processes", at_least=1)
        print("\n| asset | rows | same keys | largest difference of a value | of a metric |")
        print("|---|---|---|---|---|")
        for recipe in recipes.RECIPES:
            if recipe.name in here:
                compare(recipe, here[recipe.name], there[recipe.name], results)
    return results.finish()


def made_with(
    folder: Path, corpus: Path, compute: ComputeSettings, report: Callable[[str], None]
) -> tuple[dict[str, Artifact], float]:
    """Return the artifacts, and the seconds they took."""
    given = load_settings()
    settings: Settings = given.model_copy(
        update={
            "store": str(folder),
            "corpus": given.corpus.model_copy(update={"source": str(corpus)}),
            "compute": compute,
        }
    )
    start = time.monotonic()
    version = SnapshotStore(ArtifactStore(folder)).freeze(settings, report).version
    made = make(settings, version, recipes.retrieval_eval, report=report)
    return made, time.monotonic() - start


def compare(recipe: Recipe, one: Artifact, other: Artifact, results: Results) -> None:
    """Print a row about an asset, and record what differs."""
    gaps = [
        abs(value - other.facts[name])
        for name, value in one.facts.items()
        if isinstance(value, float) and "ndcg" in name
    ]
    shown = ["", "", "", ""]
    if recipe.table is not None:
        order = [(name, "ascending") for name in recipe.table.key]
        table, same = (artifact.table().sort_by(order) for artifact in (one, other))
        keys = table.select(recipe.table.key).equals(same.select(recipe.table.key))
        results.add(f"{recipe.name}/same_keys", float(keys), "of 1", at_least=1)
        shown[:2] = [str(table.num_rows), "yes" if keys else "no"]
        if recipe is recipes.retrieval_eval and keys:
            gaps += metric_differences(table, same)
        elif keys:
            values = difference(table, same)
            results.add(f"{recipe.name}/value_difference", values, "", at_most=VALUES)
            shown[2] = f"{values:.1e}"
    if gaps:
        results.add(f"{recipe.name}/metric_difference", max(gaps), "", at_most=METRICS)
        shown[3] = f"{max(gaps):.5f}"
    print(f"| {recipe.name} | " + " | ".join(shown) + " |")


def metric_differences(one: pa.Table, other: pa.Table) -> list[float]:
    """Return the differences of every system's mean of every metric on every set."""
    named = [field.name for field in one.schema if field.type == pa.float64()]
    sums = [
        table.group_by(["system", "question_set"], use_threads=False).aggregate(
            [(name, "mean") for name in named]
        )
        for table in (one, other)
    ]
    return [
        difference(sums[0].select([f"{name}_mean"]), sums[1].select([f"{name}_mean"]))
        for name in named
    ]


def difference(one: pa.Table, other: pa.Table) -> float:
    """Return the largest difference of a number; infinity where anything else differs."""
    largest = 0.0
    for column in one.schema:
        left, right = (table.column(column.name).combine_chunks() for table in (one, other))
        if pa.types.is_list(column.type):
            if not left.value_lengths().equals(right.value_lengths()):
                return float("inf")
            left, right = left.flatten(), right.flatten()
        if pa.types.is_floating(left.type):
            gap = np.abs(left.to_numpy(False) - right.to_numpy(False))
            largest = max(largest, float(np.max(np.nan_to_num(gap, nan=np.inf), initial=0.0)))
        elif column.name not in UNORDERED and not left.equals(right):
            return float("inf")
    return largest


@dataclass
class Nodes:
    """A cluster of two nodes that loses one, and a process that trains."""

    cluster: Any
    lost_nodes: int = 0
    killed: list[int] = field(default_factory=list)

    def watch(self, line: str) -> None:
        """Hear what a step says, and strike."""
        say(line)
        if line.startswith("vectors_document") and not self.lost_nodes:
            self.lost_nodes += 1
            say("a node is lost")
            self.cluster.remove_node(self.cluster.worker_nodes.copy().pop(), allow_graceful=False)
        elif line == "tuned_embedder: computing" and not self.cluster.worker_nodes:
            say("another node comes")
            add_node(self.cluster)
        elif line.startswith("reranker: step 5/") and not self.killed and (found := trainers()):
            self.killed.append(found[-1])
            say("a trainer is killed")
            os.kill(self.killed[0], signal.SIGKILL)


def trainers() -> list[int]:
    """Return the processes that train now."""
    from ray.util.state import list_actors

    alive = list_actors(filters=[("state", "=", "ALIVE")], detail=True)
    return [actor.pid for actor in alive if "RayTrainWorker" in actor.class_name]


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        add_node(cluster, include_dashboard=True, dashboard_port=free_port())
        add_node(cluster)
        yield Nodes(cluster)
    finally:
        ray.shutdown()
        cluster.shutdown()


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
