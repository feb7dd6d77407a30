"""The section `questions` of ragft.yaml, and servers that are asked for text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ragft_pipeline.digests import digest_of, file_sha256
from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings.section import Count, Positive, Rate, Section, Share


class EndpointSettings(Section):
    """An OpenAI-compatible server, and how patiently it is asked."""

    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    requests_per_minute: Count = 0
    max_retries: Annotated[int, Field(ge=0, le=20)] = 5
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0


class ServedModel(EndpointSettings):
    """A model that a server answers for."""

    base_url: str

    def digest(self) -> str:
        """Leave out what only paces the calls: changing it must not make the answers stale."""
        shaping = self.model_dump(include={"model", "base_url"})
        return digest_of(shaping)


class ExtractiveGenerator(Section):
    """Questions cut out of the node itself: no model, any language."""

    kind: Literal["extractive"] = "extractive"
    claims: Count = 5
    keywords: Count = 2
    headings: bool = True
    max_words: Annotated[int, Field(ge=4, le=60)] = 16
    max_nodes: Count = 20_000

    def digest(self) -> str:
        """Leave out how many nodes are asked about: what is cut from one does not depend on it."""
        shaping = self.model_dump(exclude={"max_nodes"})
        return digest_of(shaping)


class LLMGenerator(EndpointSettings):
    """Questions by a language model: the embedded one, or any OpenAI-compatible endpoint."""

    kind: Literal["llm"] = "llm"
    model: str = "embedded:smollm2-135m-instruct"
    questions_per_node: Annotated[int, Field(ge=1, le=10)] = 2
    share_of_nodes: Rate = 0.1
    max_nodes: Count = 64
    batch_size: Positive = 32

    @model_validator(mode="after")
    def _endpoint_or_embedded(self) -> LLMGenerator:
        if self.base_url is None and not self.model.startswith("embedded:"):
            raise ValueError(
                "model needs base_url (an OpenAI-compatible server) unless it is embedded:…"
            )
        if self.base_url is not None and self.model.startswith("embedded:"):
            raise ValueError("an embedded: model takes no base_url")
        return self

    def digest(self) -> str:
        """Leave out what only paces the calls: changing it must not make the answers stale."""
        shaping = self.model_dump(include={"kind", "model", "base_url", "questions_per_node"})
        return digest_of(shaping)


class ImportGenerator(Section):
    """Questions a team already has, in one of several shapes (ragft_pipeline.questions.formats)."""

    kind: Literal["import"] = "import"
    path: str
    format: Literal["auto", "embedding-qa", "beir", "pairs", "triples", "squad", "ragas"] = "auto"

    def digest(self) -> str:
        """Follow the files' content, so that editing them makes the questions stale."""
        files = files_of(self.path, "import", (".jsonl", ".tsv"))
        return digest_of(self.format, content_of(self.path, files))


class LogGenerator(Section):
    """What people asked, without answers: a log, or the votes that `ragft serve` took.

    Part of no section's digest: training takes a log as it was when it was last taken in
    (ragft_pipeline.questions.intake).
    """

    kind: Literal["log"] = "log"
    path: str | None = None
    redact: str | None = None
    keep: Share = 0.2
    max_questions: Positive = 20_000


def files_of(path: str, kind: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Return a file, or the files of a folder that end in one of `suffixes`, in order.

    Raises RagftError where there is nothing at the path.
    """
    found = Path(path).expanduser()
    if found.is_dir():
        return sorted(f for f in found.rglob("*") if f.is_file() and f.suffix.lower() in suffixes)
    if not found.is_file():
        raise RagftError(f"questions.generators: {kind} path {path!r} is not a file or a folder")
    return [found]


def content_of(path: str, files: list[Path]) -> list[list[str]]:
    """Return the names below a path of its files, and what they hold."""
    root = Path(path).expanduser()
    return [[str(file.relative_to(root)), file_sha256(file)] for file in files]


Generator = Annotated[
    ExtractiveGenerator | LLMGenerator | ImportGenerator | LogGenerator,
    Field(discriminator="kind"),
]


class QuestionSettings(Section):
    """Which generators write the synthetic questions, and what is filtered out."""

    generators: tuple[Generator, ...] = (ExtractiveGenerator(),)
    max_pairs: Positive = 20000
    min_words: Positive = 3
    max_words: Positive = 48
    min_grounding: Share = 0.3
    round_trip_top_k: Count = 20

    @property
    def model(self) -> LLMGenerator | None:
        """The first language model among the generators."""
        return next((g for g in self.generators if isinstance(g, LLMGenerator)), None)

    @property
    def logs(self) -> list[LogGenerator]:
        """The logs among the generators."""
        return [g for g in self.generators if isinstance(g, LogGenerator)]

    @property
    def writers(self) -> list[ExtractiveGenerator | LLMGenerator | ImportGenerator]:
        """The generators that write questions about nodes: all but the logs."""
        return [g for g in self.generators if not isinstance(g, LogGenerator)]

    def digest(self) -> str:
        """Fold in the generators' own digests, which may follow files."""
        own = self.model_dump(mode="json", exclude={"generators"})
        own["generators"] = [
            [g.digest(), getattr(g, "share_of_nodes", 1.0), getattr(g, "max_nodes", 0)]
            for g in self.writers
        ]
        return digest_of(own)
