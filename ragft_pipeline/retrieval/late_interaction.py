"""Late interaction: MaxSim over the token vectors of an embedder (Khattab & Zaharia 2020).

A question's score for a passage is the mean, over the question's tokens, of the best cosine among
the passage's tokens. It needs no training: the vectors are the embedder's own last hidden states,
without special tokens and the prompt's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ragft_pipeline.retrieval.encoder import Encoder, Kind, normalise_rows
from ragft_pipeline.store import digest_of

MAXSIM_VERSION = 1  # raise it when some pair would get another score
_BLOCK = 128  # passages whose token vectors are held at once


class LateInteraction:
    """Scores (question, passage) pairs by MaxSim; passages are encoded when they are scored."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @cached_property
    def identity(self) -> str:
        """A digest of what decides a pair's score: the embedder, its prompts, its length limit."""
        sides = [self._encoder.identity(kind) for kind in ("query", "document")]
        return digest_of(MAXSIM_VERSION, sides)

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return one score a pair (question, passage), float32; 0 where either has no tokens.

        Each distinct text is encoded once; the token vectors of one block of passages are held.
        """
        scores = np.zeros(len(pairs), np.float32)
        questions = self._token_vectors([question for question, _ in pairs], "query")
        asked: dict[str, list[int]] = {}
        for row, (_, passage) in enumerate(pairs):
            asked.setdefault(passage, []).append(row)
        passages = sorted(asked, key=len)
        for start in range(0, len(passages), _BLOCK):
            block = self._token_vectors(passages[start : start + _BLOCK], "document")
            for passage, vectors in block.items():
                for row in asked[passage]:
                    own = questions[pairs[row][0]]
                    if len(own) and len(vectors):
                        scores[row] = (own @ vectors.T).max(axis=1).mean()
        return scores

    def _token_vectors(self, texts: Sequence[str], kind: Kind) -> dict[str, np.ndarray]:
        """Return each distinct text's unit token vectors, float32 of shape (tokens, width)."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return {}
        encoded = self._encoder.encode_tokens(distinct, kind)
        return {text: normalise_rows(states) for text, (_, states) in zip(distinct, encoded)}
