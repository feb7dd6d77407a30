"""Sections of ragft.yaml about measuring, releasing, serving, and the machines."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ragft_pipeline.settings.section import Count, Positive, Rate, Section, Share


class EvaluationSettings(Section):
    """What is measured, and how surely."""

    max_questions: Positive = 2000
    max_synthetic: Positive = 300
    max_reranked: Positive = 400
    fusion_weights: tuple[Share, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    bootstrap: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    min_gold: Positive = 20
    latency_queries: Positive = 20
    exact_up_to: Positive = 2_000_000
    min_recall: Share = 0.98
    seed: Count = 13


class GateSettings(Section):
    """What a candidate must show before it replaces what is served."""

    min_gain: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    margin: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02
    alpha: Annotated[float, Field(gt=0.0, le=0.5)] = 0.05
    latency_factor: Annotated[float, Field(ge=1.0, le=1000.0)] = 3.0
    latency_floor_ms: Annotated[float, Field(ge=0.0, le=60_000.0)] = 250.0
    latency_queries: Positive = 12
    webhook_env: str = ""


class RetrainPolicy(Section):
    """When models are trained anew for a changed corpus; otherwise the last ones are kept."""

    kind: Literal["always", "share_changed", "drift"] = "always"
    share: Rate = 0.05
    questions: Positive = 200
    min_questions: Positive = 20


class AutomationSettings(Section):
    """How the Dagster daemon follows the documents; never part of a result's identity."""

    debounce_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    refresh_cron: str = "0 3 * * 0"
    new_questions: Share = 0.1


class ServeSettings(Section):
    """The HTTP service (`ragft serve`); never part of a result's identity."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    token_env: str = ""
    max_question_chars: Annotated[int, Field(ge=1, le=100_000)] = 2000
    max_concurrent: Annotated[int, Field(ge=1, le=256)] = 4
    max_waiting: Annotated[int, Field(ge=0, le=100_000)] = 64
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 512
    request_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    max_votes_mb: Annotated[float, Field(ge=0, le=100_000)] = 64.0


class StepResources(Section):
    """What one asset's step asks of the Ray cluster."""

    asset: str
    cpus: Annotated[float, Field(ge=0, le=4096)] = 1.0
    gpus: Annotated[float, Field(ge=0, le=1024)] = 0.0


class RaySettings(Section):
    """The cluster of `compute.runner: ray`, and what an actor of a map asks of it."""

    address: str | None = None
    actors: Count = 0
    cpus: Annotated[float, Field(gt=0, le=4096)] = 1.0
    gpus: Annotated[float, Field(ge=0, le=1024)] = 0.0
    min_seconds: Annotated[float, Field(ge=0, le=86_400)] = 20.0
    trainers: Annotated[int, Field(ge=1, le=1024)] = 1
    steps: tuple[StepResources, ...] = ()


class ComputeSettings(Section):
    """The machine; of these only dtype tells rows apart, and none makes an artifact stale."""

    runner: Literal["local", "ray"] = "local"
    ray: RaySettings = RaySettings()
    threads: Count = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["float32", "bfloat16", "int8"] = "float32"
    batch_size: Count = 0

    @model_validator(mode="before")
    @classmethod
    def _runner_alone(cls, value: Any) -> Any:
        return {"runner": value} if isinstance(value, str) else value
