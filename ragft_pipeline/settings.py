"""ragft.yaml, typed: every setting that shapes a result, with its default and its limits."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ragft_pipeline.errors import RagftError

SETTINGS_FILE = "ragft.yaml"

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of ragft.yaml: frozen, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def digest(self) -> str:
        """Return the SHA-256 of the section's values: part of an asset's code version."""
        return hashlib.sha256(
            json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
        ).hexdigest()


class CorpusSettings(Section):
    """Where the documents are and which of them are read."""

    source: str = "data/sample"
    gold_questions: str | None = None
    suffixes: tuple[str, ...] = (".md", ".txt", ".html", ".htm", ".pdf", ".docx")
    max_file_mb: Annotated[float, Field(gt=0, le=1024)] = 20.0
    max_text_mb: Annotated[float, Field(gt=0, le=1024)] = 20.0
    encodings: tuple[str, ...] = ("utf-8",)


class ChunkingSettings(Section):
    """How documents become nodes; sizes in tokens of the base embedder."""

    size: Annotated[int, Field(ge=32, le=8192)] = 256
    overlap: Count = 24
    markdown: bool = True

    @model_validator(mode="after")
    def _overlap_below_size(self) -> ChunkingSettings:
        if self.overlap * 2 > self.size:
            raise ValueError("overlap must be at most half of size")
        return self


class SplitSettings(Section):
    """Shares of new document clusters that go to val and test (the rest trains)."""

    val: Rate = 0.15
    test: Rate = 0.25
    near_duplicate: Annotated[float, Field(ge=0.5, le=1.0)] = 0.8

    @model_validator(mode="after")
    def _leaves_train(self) -> SplitSettings:
        if self.val + self.test > 0.8:
            raise ValueError("val + test must be at most 0.8")
        return self


class EmbedderSettings(Section):
    """The base embedding model: everything else is measured against it."""

    model: str = "embedded:all-minilm-l6-v2"
    max_tokens: Annotated[int, Field(ge=16, le=8192)] = 256
    query_prompt: str = ""
    document_prompt: str = ""
    trust_remote_code: bool = False


class ExtractiveGenerator(Section):
    """Questions cut out of the node itself: no model, any language."""

    kind: Literal["extractive"] = "extractive"
    claims: Count = 2
    keywords: Count = 1
    headings: bool = True
    max_words: Annotated[int, Field(ge=4, le=60)] = 16
    max_nodes: Count = 20_000

    def digest(self) -> str:
        """Leave out how many nodes are asked about: what is cut from one does not depend on it."""
        shaping = self.model_dump(exclude={"max_nodes"})
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


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
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


class LLMGenerator(EndpointSettings):
    """Questions by a language model: the embedded one, or any OpenAI-compatible endpoint."""

    kind: Literal["llm"] = "llm"
    model: str = "embedded:smollm2-135m-instruct"
    questions_per_node: Annotated[int, Field(ge=1, le=10)] = 2
    share_of_nodes: Rate = 0.1
    max_nodes: Count = 64
    batch_size: Positive = 16

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
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


class ImportGenerator(Section):
    """Questions a team already has, in the JSON of LlamaIndex's EmbeddingQAFinetuneDataset."""

    kind: Literal["import"] = "import"
    path: str

    def digest(self) -> str:
        """Follow the file's content, so that editing it makes the questions stale."""
        path = Path(self.path)
        if not path.is_file():
            raise RagftError(f"questions.generators: import path {self.path!r} is not a file")
        return hashlib.sha256(path.read_bytes()).hexdigest()


Generator = Annotated[
    ExtractiveGenerator | LLMGenerator | ImportGenerator, Field(discriminator="kind")
]


class QuestionSettings(Section):
    """Which generators write the synthetic questions, and what is filtered out."""

    generators: tuple[Generator, ...] = (ExtractiveGenerator(), LLMGenerator())
    max_pairs: Positive = 6000
    min_words: Positive = 3
    max_words: Positive = 48
    min_grounding: Share = 0.3
    round_trip_top_k: Count = 20

    @property
    def model(self) -> LLMGenerator | None:
        """The first language model among the generators."""
        return next((g for g in self.generators if isinstance(g, LLMGenerator)), None)

    def digest(self) -> str:
        """Fold in the generators' own digests, which may follow files."""
        own = self.model_dump(mode="json", exclude={"generators"})
        own["generators"] = [
            [g.digest(), getattr(g, "share_of_nodes", 1.0), getattr(g, "max_nodes", 0)]
            for g in self.generators
        ]
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


class StatisticsSettings(Section):
    """When the frozen corpus statistics are renewed."""

    refresh_share: Rate = 0.1


class TeacherSettings(Section):
    """The hybrid that teaches: bm25_weight * BM25 + (1 - bm25_weight) * base embedder, min-max."""

    bm25_weight: Share | None = None
    depth: Annotated[int, Field(ge=8, le=100_000)] = 256
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
    """The cross-encoder: where it starts, its training lists and its loss."""

    model: str = "embedded:all-minilm-l6-v2"
    recipe: Literal["bce", "lambda", "distill"] = "distill"
    layers: Count = 3
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


class EvaluationSettings(Section):
    """What is measured, and how surely."""

    max_synthetic: Positive = 300
    rerank_depth: Annotated[int, Field(ge=1, le=100)] = 100
    max_reranked: Positive = 25
    max_late_interaction: Positive = 1000
    fusion_weights: tuple[Share, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    rerank_weights: tuple[Share, ...] = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
    bootstrap: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    min_gold: Positive = 20
    latency_queries: Positive = 20
    exact_up_to: Positive = 2_000_000
    min_recall: Share = 0.98
    seed: Count = 13


class LateInteractionSettings(Section):
    """MaxSim over the base embedder's token vectors, as a second stage; how questions are tuned."""

    recipe: Literal["idf", "map", "none"] = "idf"
    depth: Annotated[int, Field(ge=2, le=100)] = 50
    bits: Literal[1, 2, 4, 8] = 4
    strengths: tuple[Share, ...] = (0.5, 1.0)
    val_questions: Positive = 200
    max_questions: Positive = 800
    hard_negatives: Positive = 12
    random_negatives: Count = 8
    batch_size: Positive = 32
    epochs: Positive = 1
    learning_rate: Rate = 1e-3
    teacher_temperature: Rate = 0.1
    student_temperature: Rate = 0.05
    teacher_weight: Share = 0.0
    seed: Count = 13


class Mix(Section):
    """Chats of the user's own, trained on beside the documents': a style, a query language."""

    path: str
    max_chats: Positive = 200

    def digest(self) -> str:
        """Follow the file's content, so that editing it makes the chats stale."""
        path = Path(self.path)
        if not path.is_file():
            raise RagftError(f"chats.mixes: {self.path!r} is not a file")
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        return hashlib.sha256(f"{content}:{self.max_chats}".encode()).hexdigest()


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
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


class Budget(Section):
    """What a training may cost; whichever ends first, 0 meaning no limit."""

    minutes: Annotated[float, Field(ge=0, le=100_000)] = 0.7
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
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


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
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


class LLMEvalSettings(Section):
    """How the answering model is measured against its base."""

    max_questions: Positive = 12
    max_synthetic: Count = 6
    closed_book: Count = 4
    max_new_tokens: Annotated[int, Field(ge=8, le=4096)] = 64
    batch_size: Positive = 8
    perplexity_texts: Positive = 8
    judge: ServedModel | None = None


class RefitSettings(Section):
    """Which parts are trained once more on all documents, for the release."""

    models: Literal["cheap", "all", "none"] = "cheap"


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


class ServeSettings(Section):
    """The HTTP service (`ragft serve`); never part of a result's identity."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    token_env: str = ""
    max_question_chars: Annotated[int, Field(ge=1, le=100_000)] = 2000
    max_concurrent: Annotated[int, Field(ge=1, le=256)] = 4
    max_waiting: Annotated[int, Field(ge=0, le=100_000)] = 64


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
    steps: tuple[StepResources, ...] = ()


class ComputeSettings(Section):
    """The machine; of these only dtype is part of a result's identity."""

    runner: Literal["local", "ray"] = "local"
    ray: RaySettings = RaySettings()
    threads: Count = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["float32", "bfloat16", "int8"] = "float32"
    batch_size: Positive = 32

    @model_validator(mode="before")
    @classmethod
    def _runner_alone(cls, value: Any) -> Any:
        return {"runner": value} if isinstance(value, str) else value


class Settings(Section):
    """All of ragft.yaml."""

    store: str = ".ragft"
    corpus: CorpusSettings = CorpusSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    split: SplitSettings = SplitSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    questions: QuestionSettings = QuestionSettings()
    statistics: StatisticsSettings = StatisticsSettings()
    teacher: TeacherSettings = TeacherSettings()
    adapter: AdapterSettings = AdapterSettings()
    tuned_embedder: TunedEmbedderSettings = TunedEmbedderSettings()
    reranker: RerankerSettings = RerankerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    late_interaction: LateInteractionSettings = LateInteractionSettings()
    refit: RefitSettings = RefitSettings()
    router: RouterSettings = RouterSettings()
    chats: ChatSettings = ChatSettings()
    tuned_llm: TunedLLMSettings = TunedLLMSettings()
    llm_eval: LLMEvalSettings = LLMEvalSettings()
    gate: GateSettings = GateSettings()
    retrain_policy: RetrainPolicy = RetrainPolicy()
    automation: AutomationSettings = AutomationSettings()
    serve: ServeSettings = ServeSettings()
    compute: ComputeSettings = ComputeSettings()

    def section_digest(self, *names: str) -> str:
        """Return one digest of the named sections, for an asset's code version."""
        parts = {name: getattr(self, name).digest() for name in names}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _explain(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(top level)"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed here: {', '.join(_siblings(error['loc']))}"
    message = error["msg"].removeprefix("Value error, ")
    value = "" if isinstance(error["input"], dict) else f" = {error['input']!r}"
    return f"{key}{value}: {message[0].lower()}{message[1:]}"


def _siblings(loc: tuple[str | int, ...]) -> list[str]:
    model: Any = Settings
    generators = {"extractive": ExtractiveGenerator, "llm": LLMGenerator, "import": ImportGenerator}
    for part in loc[:-1]:
        if part in generators:
            model = generators[str(part)]
        elif isinstance(part, str) and part in getattr(model, "model_fields", {}):
            model = model.model_fields[part].annotation
    return sorted(getattr(model, "model_fields", {}))


def parse_settings(text: str, origin: str = SETTINGS_FILE) -> Settings:
    """Parse YAML text into Settings.

    Raises RagftError with one line a wrong value: the key, the value and what is allowed.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise RagftError(
            f"{origin}{line}: not valid YAML: {getattr(error, 'problem', error)}"
        ) from None
    if raw is not None and not isinstance(raw, dict):
        raise RagftError(f"{origin}: must be a mapping of sections, not {type(raw).__name__}")
    try:
        return Settings.model_validate(raw or {})
    except ValidationError as error:
        lines = [f"{origin}: {_explain(dict(e))}" for e in error.errors(include_url=False)]
        raise RagftError("\n".join(lines)) from None


@lru_cache(maxsize=8)
def _load(path: str, stamp: int) -> Settings:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RagftError(f"{path}: not UTF-8 (byte {error.start})") from None
    return parse_settings(text, path)


def settings_path() -> Path:
    """Return the settings file in force: $RAGFT_SETTINGS, else ragft.yaml here."""
    return Path(os.environ.get("RAGFT_SETTINGS", SETTINGS_FILE))


def load_settings(path: str | Path | None = None) -> Settings:
    """Load the settings file (the defaults where there is none); $RAGFT_STORE overrides `store`."""
    file = Path(path) if path is not None else settings_path()
    if not file.is_file():
        if path is not None or "RAGFT_SETTINGS" in os.environ:
            raise RagftError(f"settings file {file} does not exist")
        settings = Settings()
    else:
        settings = _load(str(file), file.stat().st_mtime_ns)
    if store := os.environ.get("RAGFT_STORE"):
        settings = settings.model_copy(update={"store": store})
    return settings
