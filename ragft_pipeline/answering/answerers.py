"""The models that are measured and served: loaded here when first asked, or behind a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ragft_pipeline.answering.evaluation import BASE, TUNED
from ragft_pipeline.answering.hosted import served_models
from ragft_pipeline.answering.tuning import require_same_base
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.models.language_model import Chat, LanguageModel, Reply, answering_dtype
from ragft_pipeline.models.weights import (
    Weights,
    folder_digest,
    require_language_model,
    resolve_weights,
)
from ragft_pipeline.questions.endpoint import EndpointModel
from ragft_pipeline.settings import ServedModel, Settings
from ragft_pipeline.store import Artifact


@dataclass(frozen=True)
class LocalAnswerer:
    """The base model of `tuned_llm.model`, with an adapter merged into it or without.

    Attributes:
        dtype: the number type to answer in; by default the one that is faster here.
    """

    settings: Settings
    adapter: Path | None = None
    dtype: str = ""

    @property
    def name(self) -> str:
        """The base model's name in ragft.yaml."""
        return self.settings.tuned_llm.model

    @cached_property
    def _weights(self) -> Weights:
        weights = require_language_model(resolve_weights(self.settings.tuned_llm.model))
        if self.adapter is not None:
            require_same_base(self.adapter, weights)
        return weights

    @property
    def identity(self) -> str:
        """A digest of the weights, the adapter and the number type."""
        adapter = folder_digest(self.adapter) if self.adapter else ""
        dtype = self.dtype or answering_dtype(self.settings.compute)
        return digest_of(self._weights.digest, adapter, dtype)

    @cached_property
    def model(self) -> LanguageModel:
        """The model, loaded at the first use."""
        trust = self.settings.tuned_llm.trust_remote_code
        return LanguageModel.load(
            self._weights, self.settings.compute, trust, self.adapter, self.dtype
        )

    def answer(self, chats: Sequence[Chat]) -> list[Reply]:
        """Answer each chat greedily."""
        limits = self.settings.llm_eval
        return self.model.answer(chats, limits.max_new_tokens, limits.batch_size)

    def losses(self, texts: Sequence[str]) -> np.ndarray | None:
        """Return the mean loss of a token of each text."""
        return self.model.losses(texts)


@dataclass(frozen=True)
class ServedAnswerer:
    """A model of a service, by the name it has there."""

    served: ServedModel

    @property
    def name(self) -> str:
        """The name it has there."""
        return self.served.model

    @property
    def identity(self) -> str:
        """A digest of the server and the model's name."""
        return self.served.digest()

    def answer(self, chats: Sequence[Chat]) -> list[Reply]:
        """Answer each chat; TransientError where some got no answer."""
        replies = EndpointModel(self.served, "answering").ask(chats, [0] * len(chats))
        if any(reply is None for reply in replies):
            raise TransientError(f"{self.name}: some questions got no answer; run again")
        return [reply for reply in replies if reply is not None]

    def losses(self, texts: Sequence[str]) -> np.ndarray | None:
        """Return None: services do not say."""
        return None


def open_answerer(
    system: str, settings: Settings, tuned: Artifact, dtype: str = ""
) -> LocalAnswerer | ServedAnswerer:
    """Return the base or the tuned answering model, whether here or at a service.

    Args:
        system: `base` or `tuned`.
        settings: by which `tuned`, the tuned_llm, was made.
        dtype: as of LocalAnswerer.

    Raises RagftError where there is no such model.
    """
    recipe = settings.tuned_llm
    if system not in (BASE, TUNED):
        raise RagftError(f"model {system!r}: must be {BASE} or {TUNED}")
    if system == TUNED and recipe.where == "none":
        raise RagftError("no model was tuned: see tuned_llm.where in ragft.yaml")
    if recipe.where == "hosted" and recipe.hosted is not None:
        base, better = served_models(recipe.hosted, str(tuned.facts["hosted_model"]))
        return ServedAnswerer(better if system == TUNED else base)
    return LocalAnswerer(settings, tuned.model if system == TUNED else None, dtype)
