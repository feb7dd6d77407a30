"""Which parts a system has: the retriever, the fusion weight and the second stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.choosing import Choices
from ragft_pipeline.evaluation.second_stages import (
    LATE_INTERACTION,
    RANKER,
    RERANKER,
    staged_name,
)
from ragft_pipeline.evaluation.systems import CONTEXT, hybrid_name
from ragft_pipeline.evaluation.trial import Models
from ragft_pipeline.retrieval.search import MIDDLE

_PARTS = {  # the models of each retriever, as fields of Models
    "base": (),
    CONTEXT: (),
    "adapter": ("adapter",),
    "tuned_embedder": ("tuned_embedder",),
    "adapter(tuned_embedder)": ("tuned_embedder", "stacked_adapter"),
}
_STAGE_PARTS = {
    "": (),
    RANKER: ("late_interaction",),
    LATE_INTERACTION: ("late_interaction",),
    RERANKER: ("reranker",),
}
ASSETS = {  # the asset that makes each field of Models
    "tuned_embedder": "tuned_embedder",
    "adapter": "embedding_adapter",
    "stacked_adapter": "stacked_adapter",
    "late_interaction": "late_interaction",
    "reranker": "reranker",
}


@dataclass(frozen=True)
class Configuration:
    """A system that can be served.

    Attributes:
        retriever: the dense retriever: `base`, `context`, `adapter`, `tuned_embedder` or
            `adapter(tuned_embedder)`.
        dense_weight: its weight beside BM25; None searches without BM25.
        second_stage: `ranker`, `late interaction`, `reranker`, or nothing.
        second_weight: the second stage's weight against the first's.
        ranker: of a ranker, the weight of each piece of evidence.
    """

    retriever: str
    dense_weight: float | None = None
    second_stage: str = ""
    second_weight: float = 0.0
    ranker: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, system: str, choices: Choices) -> Configuration:
        """Return the configuration of an evaluated system, by its name.

        Raises RagftError for a system that is measured but not served, as BM25 alone.
        """
        for candidate in _all(choices):
            if candidate.name == system:
                return candidate
        raise RagftError(f"{system!r} is not a system that can be served")

    @property
    def name(self) -> str:
        """The name that evaluation gives the system."""
        first = self.retriever if self.dense_weight is None else hybrid_name(self.retriever)
        return staged_name(first, self.second_stage) if self.second_stage else first

    @property
    def parts(self) -> tuple[str, ...]:
        """The models it needs, as fields of Models."""
        return (*_PARTS[self.retriever], *_STAGE_PARTS[self.second_stage])

    @property
    def choices(self) -> Choices:
        """Its weights, in the form evaluation reads them."""
        choices = Choices("", 0)
        if self.dense_weight is not None:
            choices.fusion_weights[self.retriever] = self.dense_weight
        if self.second_stage:
            choices.second_stage_weights[self.name] = self.second_weight
        if self.ranker:
            choices.rankers[self.name] = self.ranker
        return choices

    def models(self, models: Models) -> Models:
        """Return of all models those that it needs.

        Raises RagftError where one is missing.
        """
        folders: dict[str, Path] = {}
        for part in self.parts:
            folder = getattr(models, part)
            if folder is None:
                raise RagftError(f"{self.name} needs the model {ASSETS[part]}, which is missing")
            folders[part] = folder
        return Models(**folders)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def _all(choices: Choices) -> Iterator[Configuration]:
    for retriever in _PARTS:
        yield Configuration(retriever)
        if retriever in choices.fusion_weights:
            first = Configuration(retriever, choices.fusion_weights[retriever])
            yield first
            for stage in (LATE_INTERACTION, RERANKER):
                staged = replace(first, second_stage=stage)
                weight = choices.second_stage_weights.get(staged.name, 0.0)
                yield replace(staged, second_weight=weight)
            ranked = replace(first, second_stage=RANKER, dense_weight=MIDDLE, second_weight=1.0)
            yield replace(ranked, ranker=choices.rankers.get(ranked.name, {}))
