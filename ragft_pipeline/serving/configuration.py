"""Which parts a system has: the retriever, the fusion weight and the second stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.choosing import Choice, Choices, Weights
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.evaluation.second_stages import CROSS_ENCODER_RANKER, RANKER, staged_name
from ragft_pipeline.evaluation.systems import CONTEXT, hybrid_name
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
    CROSS_ENCODER_RANKER: ("late_interaction", "reranker"),
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
        second_stage: `ranker`, `ranker + cross-encoder`, or nothing.
        ranker: of a ranker, the weight of each piece of evidence.
        questions: people's questions that fitted the weights.
        folds: by fold, the weights that its questions had no part in: the system is measured by
            these, and served with its own.
    """

    retriever: str
    dense_weight: float | None = None
    second_stage: str = ""
    ranker: dict[str, float] = field(default_factory=dict)
    questions: int = 0
    folds: dict[str, Weights] = field(default_factory=dict)

    @classmethod
    def of(cls, system: str, choices: Choices) -> Configuration:
        """Return the configuration of an evaluated system, by its name.

        Raises RagftError for a system that is measured but not served, as BM25 alone.
        """
        for plain in _all():
            if plain.name == system:
                made = plain._weighted(choices.whole.weights[system])
                folds = {fold: one.weights[system] for fold, one in choices.folds.items()}
                return replace(made, questions=choices.questions, folds=folds)
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

        def choice(weights: Weights) -> Choice:
            return Choice(self.name, {self.name: weights})

        folds = {fold: choice(weights) for fold, weights in self.folds.items()}
        return Choices(self.questions, choice(self.ranker or self.dense_weight), folds)

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

    def _weighted(self, weights: Weights) -> Configuration:
        if isinstance(weights, dict):
            return replace(self, ranker=weights)
        return self if weights is None else replace(self, dense_weight=weights)


def _all() -> Iterator[Configuration]:
    for retriever in _PARTS:
        yield Configuration(retriever)
        for stage in _STAGE_PARTS:
            yield Configuration(retriever, MIDDLE, stage)
