"""Sections of ragft.yaml about the retrieval parts that are tuned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ragft_pipeline.settings.section import Count, Positive, Rate, Section, Share


class TeacherSettings(Section):
    """The hybrid that teaches: bm25_weight * BM25 + (1 - bm25_weight) * base embedder, min-max."""

    bm25_weight: Share | None = None
    depth: Annotated[int, Field(ge=8, le=100_000)] = 256
    late_interaction: Share = 0.6
    late_questions: Count = 1000
    model: str | None = None
    model_weight: Share = 0.5
    reranked: Annotated[int, Field(ge=2, le=1000)] = 32
    max_tokens: Annotated[int, Field(ge=16, le=8192)] = 256
    trust_remote_code: bool = False


class AdapterSettings(Section):
    """The adapter over frozen base vectors."""

    kind: Literal["linear", "low_rank", "two_layer"] = "linear"
    side: Literal["query", "both"] = "both"
    rank: Positive = 64
    hidden: Positive = 384
    nodes_per_step: Annotated[int, Field(ge=64)] = 8192
    epochs: Annotated[int, Field(ge=1, le=500)] = 8
    batch_size: Positive = 128
    learning_rate: Rate = 1e-3
    teacher_temperature: Rate = 0.1
    student_temperature: Rate = 0.05
    source_weight: Annotated[float, Field(ge=0.0, le=10.0)] = 0.1
    strengths: tuple[Share, ...] = (0.25, 0.5, 0.75, 1.0)
    checkpoints: Count = 4
    seed: Count = 13


class TunedEmbedderSettings(Section):
    """Tuning of the towers by the teacher, then interpolation with the base weights on val."""

    recipe: Literal["both_towers", "query_tower", "lora"] = "both_towers"
    epochs: Annotated[float, Field(gt=0, le=100)] = 1.0
    batch_size: Annotated[int, Field(ge=2, le=8192)] = 32
    accumulate: bool = False
    neighbours: Annotated[int, Field(ge=1, le=8192)] = 1
    hard_negatives: Annotated[int, Field(ge=0, le=100)] = 0
    false_negative: Annotated[float, Field(gt=0.0, le=2.0)] = 0.9
    learning_rate: Rate = 1e-4
    temperature: Rate = 0.05
    teacher_temperature: Rate = 0.1
    teacher_weight: Annotated[float, Field(ge=0.0, le=10.0)] | None = None
    source_weight: Annotated[float, Field(ge=0.0, le=10.0)] | None = None
    matryoshka: tuple[Positive, ...] = ()
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    frozen_layers: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    warmup: Share = 0.1
    max_pairs: Positive = 6000
    passage_tokens: Positive = 128
    strengths: tuple[Share, ...] = (0.5, 1.0)
    val_questions: Positive = 200
    seed: Count = 13

    @model_validator(mode="after")
    def _learns_something(self) -> TunedEmbedderSettings:
        if sum(self.loss_weights) == 0:
            raise ValueError("teacher_weight and source_weight are both 0")
        return self

    @property
    def loss_weights(self) -> tuple[float, float]:
        """The weights of distillation and of cross-entropy; the recipe's own where not given."""
        teacher, source = (1.0, 0.1) if self.recipe == "query_tower" else (0.0, 1.0)
        return (
            teacher if self.teacher_weight is None else self.teacher_weight,
            source if self.source_weight is None else self.source_weight,
        )


class RerankerSettings(Section):
    """The cross-encoder: where it starts, its training lists and its loss; null: there is none."""

    model: str | None = None
    recipe: Literal["bce", "lambda", "distill"] = "distill"
    layers: Count = 0
    max_tokens: Annotated[int, Field(ge=32, le=8192)] = 192
    max_questions: Positive = 700
    hard_negatives: Count = 2
    medium_negatives: Count = 1
    random_negatives: Count = 1
    easy_share: Share = 0.5
    easy_words: Annotated[int, Field(ge=8, le=1024)] = 36
    source_share: Share = 0.5
    teacher_temperature: Rate = 0.1
    epochs: Annotated[float, Field(gt=0, le=100)] = 1.0
    batch_size: Positive = 8
    learning_rate: Rate | None = None
    warmup: Share = 0.05
    evaluations: Annotated[int, Field(ge=1, le=100)] = 3
    patience: Positive = 3
    val_questions: Positive = 24
    val_depths: Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(min_length=1)] = (
        20,
        50,
    )
    trust_remote_code: bool = False
    seed: Count = 13

    @model_validator(mode="after")
    def _has_negatives(self) -> RerankerSettings:
        if not self.hard_negatives + self.medium_negatives + self.random_negatives:
            raise ValueError("hard, medium and random negatives must not all be 0")
        return self


class LateInteractionSettings(Section):
    """MaxSim over the base embedder's token vectors, as a second stage; how questions are tuned."""

    depth: Annotated[int, Field(ge=2, le=100)] = 50
    bits: Literal[1, 2, 4, 8] = 4
    strengths: tuple[Share, ...] = (0.5, 1.0)
    val_questions: Positive = 200


class RouterSettings(Section):
    """The router: which documents' tools, and which kind of index, a question is sent to."""

    summaries: bool = False
    vectors_per_tool: Count = 0
    max_questions: Positive = 6000
    strengths: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.0, 0.5, 1.0)
    max_tools: Annotated[int, Field(ge=1, le=100)] = 10
    max_loss: Annotated[float, Field(ge=0.0, le=0.2)] = 0.01
    rerank_depth: Annotated[int, Field(ge=0, le=100)] = 8
    rerank_questions: Count = 40
    min_questions: Positive = 20
    seed: Count = 13


class RefitSettings(Section):
    """Which parts are trained once more on all documents, for the release."""

    models: Literal["cheap", "all", "none"] = "cheap"
