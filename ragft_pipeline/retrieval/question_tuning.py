"""What tuning does to late interaction: how much each token of a question counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError

MODEL_FILE = "late_interaction.safetensors"
CARD_FILE = "ragft_late_interaction.json"
_WEIGHTS = "token_weights"


@dataclass(frozen=True)
class QuestionTuning:
    """What tuning does to a question's tokens; the passages' stay as they are.

    Attributes:
        base_digest: of the embedder it was made for.
        weights: how much a token counts, by token id, float32 of shape (vocabulary,).
    """

    base_digest: str
    weights: np.ndarray

    def _arrays(self) -> dict[str, np.ndarray]:
        return {_WEIGHTS: np.ascontiguousarray(self.weights, np.float32)}

    def digest(self) -> str:
        """Return a digest of the numbers."""
        parts = {name: array.tobytes().hex() for name, array in self._arrays().items()}
        return digest_of(self.base_digest, parts)

    def save(self, folder: Path) -> None:
        """Save as safetensors, with a card that names the base model."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(self._arrays(), folder / MODEL_FILE)
        card = {"base_digest": self.base_digest}
        (folder / CARD_FILE).write_text(json.dumps(card, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, base_digest: str) -> QuestionTuning:
        """Load what `save` wrote.

        Raises RagftError where it was made for another base model than `base_digest`.
        """
        from safetensors.numpy import load_file

        try:
            card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RagftError(
                f"{folder} is no late interaction model: {error.filename} is missing"
            ) from None
        if card["base_digest"] != base_digest:
            raise RagftError(
                f"late interaction model {folder} belongs to the base model "
                f"{card['base_digest'][:12]}…, not to {base_digest[:12]}…: "
                "train it again over this base"
            )
        arrays = load_file(folder / MODEL_FILE)
        if set(arrays) != {_WEIGHTS}:
            raise RagftError(f"late interaction model {folder} is of another kind: make it again")
        return cls(base_digest, arrays[_WEIGHTS])
