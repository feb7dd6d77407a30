"""Late interaction: MaxSim over the token vectors of an embedder (Khattab & Zaharia 2020).

A question's score for a passage is the mean, over the question's tokens, of the best cosine among
the passage's tokens: no training is needed, and questions and passages are encoded apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.token_vectors import TokenVectors, encode_tokens
from ragft_pipeline.settings import ComputeSettings, EmbedderSettings
from ragft_pipeline.store import digest_of

MODEL_FILE = "late_interaction.safetensors"
CARD_FILE = "ragft_late_interaction.json"
MAXSIM_VERSION = 1  # raise it when some pair would get another score
_BLOCK = 256  # passages whose token vectors are held at once


@dataclass(frozen=True)
class TokenWeights:
    """How much each token of a question counts, by token id, float32 of shape (vocabulary,)."""

    values: np.ndarray
    base_digest: str

    def digest(self) -> str:
        """Return a digest of the weights."""
        return digest_of(self.base_digest, self.values.astype(np.float32).tobytes().hex())

    def save(self, folder: Path) -> None:
        """Save as safetensors, with a card that names the base model."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"token_weights": self.values.astype(np.float32)}, folder / MODEL_FILE)
        card = {"base_digest": self.base_digest}
        (folder / CARD_FILE).write_text(json.dumps(card, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, base_digest: str) -> TokenWeights:
        """Load saved weights.

        Raises RagftError where they were made for another base model than `base_digest`.
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
        return cls(load_file(folder / MODEL_FILE)["token_weights"], base_digest)


class LateInteraction:
    """Scores (question, passage) pairs by MaxSim; passages are encoded when they are scored.

    Args:
        encoder: the embedder whose token vectors are compared.
        weights: of the question's tokens; None counts them alike.
    """

    def __init__(self, encoder: Encoder, weights: TokenWeights | None = None) -> None:
        self._encoder = encoder
        self._weights = weights

    @classmethod
    def load(
        cls, folder: Path, embedder: EmbedderSettings, compute: ComputeSettings
    ) -> LateInteraction:
        """Return the scorer of an artifact's model folder, over the base embedder."""
        encoder = Encoder.base(embedder, compute)
        trained = (folder / MODEL_FILE).is_file()
        weights = TokenWeights.load(folder, encoder.weights.digest) if trained else None
        return cls(encoder, weights)

    @cached_property
    def identity(self) -> str:
        """A digest of what decides a pair's score: the embedder, prompts, token weights."""
        sides = [self._encoder.identity(kind) for kind in ("query", "document")]
        return digest_of(MAXSIM_VERSION, sides, self._weights.digest() if self._weights else "")

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return one score a pair (question, passage), float32; 0 where either has no tokens.

        Each distinct text is encoded once; the token vectors of a block of passages are held.
        """
        scores = np.zeros(len(pairs), np.float32)
        texts = list(dict.fromkeys(question for question, _ in pairs))
        encoded = encode_tokens(self._encoder, texts, "query")
        counts = self._counts(encoded)
        questions = {
            text: (vectors, counted)
            for text, vectors, counted in zip(texts, encoded.split(), counts)
        }
        asked: dict[str, list[int]] = {}
        for row, (_, passage) in enumerate(pairs):
            asked.setdefault(passage, []).append(row)
        passages = sorted(asked, key=len)
        for start in range(0, len(passages), _BLOCK):
            block = passages[start : start + _BLOCK]
            tokens = encode_tokens(self._encoder, block, "document")
            for passage, vectors in zip(block, tokens.split()):
                for row in asked[passage]:
                    own, counted = questions[pairs[row][0]]
                    if len(own) and len(vectors):
                        scores[row] = counted @ (own @ vectors.T).max(axis=1)
        return scores

    def _counts(self, encoded: TokenVectors) -> list[np.ndarray]:
        """Return how much each token of each question counts; the counts of a question sum to 1."""
        if self._weights is None:
            every = np.ones(len(encoded.token_ids), np.float32)
        else:
            every = self._weights.values[encoded.token_ids]
        parts = np.split(every, np.cumsum(encoded.lengths)[:-1]) if len(encoded) else []
        return [part / max(float(part.sum()), 1e-9) for part in parts]
