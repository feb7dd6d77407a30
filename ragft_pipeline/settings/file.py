"""ragft.yaml as a whole: every setting that shapes a result, and how the file is read."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings.answering import ChatSettings, LLMEvalSettings, TunedLLMSettings
from ragft_pipeline.settings.data import (
    ChunkingSettings,
    CorpusSettings,
    EmbedderSettings,
    PassageSettings,
    SplitSettings,
    StatisticsSettings,
)
from ragft_pipeline.settings.operation import (
    AutomationSettings,
    ComputeSettings,
    EvaluationSettings,
    GateSettings,
    RetrainPolicy,
    ServeSettings,
)
from ragft_pipeline.settings.questions import (
    ExtractiveGenerator,
    ImportGenerator,
    LLMGenerator,
    LogGenerator,
    QuestionSettings,
)
from ragft_pipeline.settings.section import Section
from ragft_pipeline.settings.tuning import (
    AdapterSettings,
    LateInteractionSettings,
    RefitSettings,
    RerankerSettings,
    RouterSettings,
    TeacherSettings,
    TunedEmbedderSettings,
)

SETTINGS_FILE = "ragft.yaml"


class Settings(Section):
    """All of ragft.yaml."""

    store: str = ".ragft"
    corpus: CorpusSettings = CorpusSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    split: SplitSettings = SplitSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    passages: PassageSettings = PassageSettings()
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
        return digest_of(parts)


def _explain(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(top level)"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed here: {', '.join(_siblings(error['loc']))}"
    message = error["msg"].removeprefix("Value error, ")
    value = "" if isinstance(error["input"], dict) else f" = {error['input']!r}"
    return f"{key}{value}: {message[0].lower()}{message[1:]}"


def _siblings(loc: tuple[str | int, ...]) -> list[str]:
    model: Any = Settings
    generators = {
        "extractive": ExtractiveGenerator,
        "llm": LLMGenerator,
        "import": ImportGenerator,
        "log": LogGenerator,
    }
    for part in loc[:-1]:
        if part in generators:
            model = generators[str(part)]
        elif isinstance(part, str) and part in getattr(model, "model_fields", {}):
            model = _section_of(model.model_fields[part].annotation)
    return sorted(getattr(model, "model_fields", {}))


def _section_of(annotation: Any) -> Any:
    """Return the section inside `Section | None` and `tuple[Section, ...]`."""
    inner = [each for each in get_args(annotation) if hasattr(each, "model_fields")]
    return inner[0] if inner else annotation


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
