"""ragft.yaml as a whole: every setting that shapes a result, and how the file is read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError, redacted
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
from ragft_pipeline.settings.targets import TargetSettings
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
    targets: tuple[TargetSettings, ...] = ()
    compute: ComputeSettings = ComputeSettings()

    def section_digest(self, *names: str) -> str:
        """Return one digest of the named sections, for an asset's code version."""
        parts = {name: _digest(getattr(self, name)) for name in names}
        return digest_of(parts)


def _digest(value: Section | tuple[Section, ...]) -> str:
    return (
        digest_of([one.digest() for one in value]) if isinstance(value, tuple) else value.digest()
    )


def _explain(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(top level)"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed here: {', '.join(_siblings(error['loc']))}"
    message = error["msg"].removeprefix("Value error, ")
    given = error["input"]
    value = "" if isinstance(given, dict) else f" = {_shown(given)!r}"
    return f"{key}{value}: {message[0].lower()}{message[1:]}"


def _shown(value: Any) -> Any:
    """Return a wrong value without the password that an address may hold."""
    return redacted(value) if isinstance(value, str) and "://" in value else value


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


@lru_cache(maxsize=32)
def _load(path: str, stamp: int, here: str) -> Settings:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RagftError(f"{path}: not UTF-8 (byte {error.start})") from None
    settings = parse_settings(text, path)
    folder = Path(path).absolute().parent
    return settings if folder == Path(here) else _located(settings, folder)


def load_settings(path: str | Path | None = None, store: str = "") -> Settings:
    """Load a settings file: by default ragft.yaml here, and without one the defaults.

    Paths of documents, questions and the store that are relative are so to the file's folder.

    Args:
        store: a folder or URL, instead of the file's own.
    """
    file = Path(path or SETTINGS_FILE)
    settings = Settings()
    if file.is_file():
        settings = _load(str(file), file.stat().st_mtime_ns, str(Path.cwd()))
    elif path:
        raise RagftError(f"settings file {file} does not exist")
    return settings.model_copy(update={"store": store}) if store else settings


def _located(settings: Settings, folder: Path) -> Settings:
    """Return the settings with their relative paths below a folder.

    None of these paths is part of an identity: what stands there is, by its digest.
    """

    def below(path: str | None) -> str | None:
        if not path or "://" in path or "::" in path:
            return path
        return str(folder / Path(path).expanduser())

    def of(section: Any) -> Any:
        return section.model_copy(update={"path": below(getattr(section, "path", None))})

    generators = tuple(
        of(one) if hasattr(one, "path") else one for one in settings.questions.generators
    )
    update = {
        "store": below(settings.store),
        "corpus": settings.corpus.model_copy(update={"source": below(settings.corpus.source)}),
        "questions": settings.questions.model_copy(update={"generators": generators}),
        "chats": settings.chats.model_copy(
            update={"mixes": tuple(of(mix) for mix in settings.chats.mixes)}
        ),
    }
    return settings.model_copy(update=update)
