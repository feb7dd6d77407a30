"""Where a run's steps are executed: in the run's own process, or each as a job of a Ray cluster."""

from __future__ import annotations

import json
import math
import os
import sysconfig

import dagster as dg

from ragft_pipeline.compute.ray_cluster import cluster_address, ray_is_missing
from ragft_pipeline.errors import RagftError
from ragft_pipeline.instance import BoundCorpus
from ragft_pipeline.lineage.steps import Recipe
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import Settings, StepResources
from ragft_pipeline.store.remote import absolute

# What a step's process needs beside its node's own environment; keys of endpoints are not sent.
_PASSED = ("DAGSTER_HOME", "HF_HUB_OFFLINE", "PYTHONPATH", "RAGFT_CACHE", "RAGFT_HEAVY_POOL")


def steps_on_ray(settings: Settings) -> bool:
    """Whether steps are jobs of a cluster: with Ray, where there is one to submit them to."""
    return settings.compute.runner == "ray" and bool(cluster_address(settings.compute.ray))


def chosen_executor(corpus: BoundCorpus) -> dg.ExecutorDefinition:
    """Return the executor of a corpus's jobs."""
    settings = corpus.settings
    if not steps_on_ray(settings):
        return dg.in_process_executor
    try:
        from dagster_ray import ray_executor
    except ImportError as error:
        raise ray_is_missing(error) from None
    known = {recipe.name for recipe in RECIPES}
    for step in settings.compute.ray.steps:
        if step.asset not in known:
            raise RagftError(f"compute.ray.steps: there is no asset {step.asset!r}")
    address = cluster_address(settings.compute.ray)
    # a step is started as `dagster api execute_step`: the one beside this Python, not any other
    own = [f"PATH={sysconfig.get_path('scripts')}:${{PATH}}"]
    own.append(f"RAGFT_STORE={absolute(settings.store)}")
    if corpus.settings_file:
        own.append(f"RAGFT_SETTINGS={corpus.settings_file}")
    passed = [name for name in _PASSED if name in os.environ]
    return ray_executor.configured({"ray": {"address": address, "env_vars": [*own, *passed]}})


def step_tags(recipe: Recipe, settings: Settings) -> dict[str, str]:
    """Return the tags of an asset's step: what dagster-ray asks the cluster for."""
    if settings.compute.runner == "local":
        return {}
    asked = {step.asset: step for step in settings.compute.ray.steps}
    default = StepResources(asset=recipe.name, cpus=1.0 if recipe.heavy else 0.0)
    step = asked.get(recipe.name, default)
    threads = {"OMP_NUM_THREADS": str(max(1, math.floor(step.cpus)))}
    wanted = {
        "num_cpus": step.cpus, "num_gpus": step.gpus, "runtime_env": {"env_vars": threads}
    }  # fmt: skip
    return {"dagster-ray/config": json.dumps(wanted)}
