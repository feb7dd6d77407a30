"""What an llm_eval measured: the settings that shape an answer, and which models answered.

It lies beside the measurements, so that whoever serves answers asks as was asked there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ragft_pipeline.answering.answerers import LocalAnswerer, ServedAnswerer, open_answerer
from ragft_pipeline.answering.evaluation import BASE, TUNED
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError, redacted
from ragft_pipeline.identities import versions
from ragft_pipeline.models.language_model import answering_dtype
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.settings import HostedTraining, Settings
from ragft_pipeline.store import Artifact
from ragft_pipeline.store.files import write_json

MEASURED_FILE = "answering.json"
_PASSAGES = "passages"
_KEPT: dict[str, set[str] | None] = {
    "chats": {"decline", "passages", "sentences"},
    "tuned_llm": {"model", "where", "hosted", "trust_remote_code", "max_guard_loss"},
    "llm_eval": {"max_new_tokens", "batch_size"},
    "evaluation": None,
    "gate": {"min_gain", "margin", "alpha"},
    "embedder": None,
}


@dataclass(frozen=True)
class Measured:
    """How an llm_eval asked.

    Attributes:
        kept: sections of ragft.yaml, as far as they shape an answer or the verdict.
        dtype: of `compute`, the number type of vectors.
        answers_in: the number type of a model that answers here.
        identities: by system, of the model that answered; and of what shows it passages.
    """

    kept: dict[str, dict[str, Any]]
    dtype: str
    answers_in: str
    identities: dict[str, str]

    @classmethod
    def of(cls, settings: Settings, tuned: Artifact) -> Measured:
        """Return what an evaluation by these settings, of this tuned_llm, measures."""
        kept = {
            name: getattr(settings, name).model_dump(mode="json", include=fields)
            for name, fields in _KEPT.items()
        }
        if hosted := kept["tuned_llm"]["hosted"]:
            hosted["base_url"] = redacted(hosted["base_url"])
        systems = [BASE] if settings.tuned_llm.where == "none" else [BASE, TUNED]
        identities = {name: open_answerer(name, settings, tuned).identity for name in systems}
        identities[_PASSAGES] = _passages_identity(settings)
        return cls(kept, settings.compute.dtype, answering_dtype(settings.compute), identities)

    def save(self, folder: Path) -> None:
        """Write it into the evaluation's folder."""
        write_json(folder / MEASURED_FILE, asdict(self))

    @classmethod
    def load(cls, evaluated: Artifact) -> Measured:
        """Read what an llm_eval measured; RagftError where it does not say."""
        try:
            return cls(**json.loads((evaluated.path / MEASURED_FILE).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            raise RagftError(
                "this llm_eval does not say how it asked: materialize llm_eval again (`ragft run`)"
            ) from None

    def settings(self, own: Settings) -> Settings:
        """Return the settings to ask by: those that were measured.

        Args:
            own: for this machine's threads and device, and for how the same service is reached.
        """
        try:
            found = Settings.model_validate(self.kept)
        except ValidationError:
            raise RagftError(
                "this llm_eval was made by other settings than this program knows: "
                "materialize llm_eval again (`ragft run`)"
            ) from None
        tuned, ours = found.tuned_llm, own.tuned_llm.hosted
        if tuned.hosted is not None and ours is not None and _named(ours) == _named(tuned.hosted):
            tuned = tuned.model_copy(update={"hosted": ours})
        compute = own.compute.model_copy(update={"dtype": self.dtype})
        return found.model_copy(update={"tuned_llm": tuned, "compute": compute, "store": own.store})

    def open(
        self, system: str, settings: Settings, tuned: Artifact
    ) -> LocalAnswerer | ServedAnswerer:
        """Return the base or the tuned model, by what `settings` returned.

        Raises RagftError where it is not what was measured any more, or what shows it passages.
        """
        answerer = open_answerer(system, settings, tuned, self.answers_in)
        for name, found in (
            (system, answerer.identity), (_PASSAGES, _passages_identity(settings))
        ):  # fmt: skip
            if self.identities[name] != found:
                model = settings.embedder.model if name == _PASSAGES else answerer.name
                raise RagftError(
                    f"{model!r} is not what llm_eval measured any more: "
                    "materialize llm_eval again (`ragft run`)"
                )
        return answerer


def _named(service: HostedTraining) -> tuple[str, str]:
    return redacted(service.base_url), service.model


def _passages_identity(settings: Settings) -> str:
    """Return a digest of what words a chat and cuts its passages."""
    encoder = Encoder.base(settings.embedder, settings.compute)
    sides = [encoder.identity(kind) for kind in ("query", "document")]
    return digest_of(versions("answering.focus", "answering.prompts"), sides)
