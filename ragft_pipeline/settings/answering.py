"""Sections of ragft.yaml about the answering model: its chats, training, evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ragft_pipeline.digests import digest_of, file_sha256
from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings.questions import ServedModel
from ragft_pipeline.settings.section import Count, Positive, Rate, Section, Share


class Mix(Section):
    """Chats of the user's own, trained on beside the documents': a style, a query language."""

    path: str
    max_chats: Positive = 200

    def digest(self) -> str:
        """Follow the file's content, so that editing it makes the chats stale."""
        path = Path(self.path)
        if not path.is_file():
            raise RagftError(f"chats.mixes: {self.path!r} is not a file")
        return digest_of(file_sha256(path), self.max_chats)


class ChatSettings(Section):
    """The chats that an answering model learns from: a question, passages, the answer."""

    passages: Annotated[int, Field(ge=1, le=20)] = 3
    sentences: Count = 2
    missing: Share = 0.15
    rephrased: Count = 32
    max_chats: Positive = 400
    decline: Annotated[str, Field(min_length=2, max_length=200)] = "The passages do not say."
    teacher: ServedModel | None = None
    mixes: tuple[Mix, ...] = ()

    def digest(self) -> str:
        """Fold in the teacher's and the mixes' own digests, which may follow files."""
        own = self.model_dump(mode="json", exclude={"teacher", "mixes"})
        own["teacher"] = self.teacher.digest() if self.teacher else ""
        own["mixes"] = [mix.digest() for mix in self.mixes]
        return digest_of(own)


class Budget(Section):
    """What a training may cost; whichever ends first, 0 meaning no limit."""

    minutes: Annotated[float, Field(ge=0, le=100_000)] = 0.3
    steps: Count = 0
    tokens: Count = 0


class HostedTraining(Section):
    """A fine-tuning service that speaks OpenAI's API, and how its jobs are followed."""

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    poll_seconds: Annotated[float, Field(gt=0, le=3600)] = 20.0
    max_hours: Annotated[float, Field(gt=0, le=240)] = 24.0
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0

    def digest(self) -> str:
        """Leave out what only paces the calls: changing it must not pay for another job."""
        shaping = self.model_dump(include={"base_url", "model"})
        return digest_of(shaping)


class TunedLLMSettings(Section):
    """LoRA fine-tuning of the answering model, here or at a service."""

    model: str = "embedded:smollm2-135m-instruct"
    where: Literal["local", "hosted", "none"] = "local"
    hosted: HostedTraining | None = None
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    targets: tuple[str, ...] = ()
    layers: Count = 0
    four_bit: bool = False
    epochs: Annotated[float, Field(gt=0, le=100)] = 2.0
    batch_size: Positive = 4
    micro_batch_size: Positive = 1
    learning_rate: Rate = 5e-4
    warmup: Share = 0.05
    max_tokens: Annotated[int, Field(ge=64, le=131_072)] = 2048
    packing: bool = False
    gradient_checkpointing: bool = False
    evaluations: Annotated[int, Field(ge=1, le=100)] = 1
    patience: Positive = 2
    val_chats: Positive = 6
    budget: Budget = Budget()
    strengths: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5, 1.0)
    max_guard_loss: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    merged: bool = False
    trust_remote_code: bool = False
    seed: Count = 13

    @model_validator(mode="after")
    def _has_a_service(self) -> TunedLLMSettings:
        if self.where == "hosted" and self.hosted is None:
            raise ValueError("where: hosted needs a section hosted with base_url and model")
        return self

    def digest(self) -> str:
        """Take the service's own digest, and of a hosted job leave out what only we would do."""
        if self.where == "hosted" and self.hosted is not None:
            own: dict[str, Any] = {"hosted": self.hosted.digest(), "epochs": self.epochs}
            own |= {"seed": self.seed, "max_guard_loss": self.max_guard_loss}
        else:
            own = self.model_dump(mode="json", exclude={"hosted"})
        return digest_of(own)


class LLMEvalSettings(Section):
    """How the answering model is measured against its base."""

    max_questions: Positive = 12
    max_synthetic: Count = 6
    closed_book: Count = 4
    max_new_tokens: Annotated[int, Field(ge=8, le=4096)] = 64
    batch_size: Positive = 24
    perplexity_texts: Positive = 8
    judge: ServedModel | None = None
