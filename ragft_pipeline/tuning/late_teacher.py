"""Late interaction's part in the teacher: tokens count by how few of the train nodes have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.token_cosines import weighed_scores
from ragft_pipeline.tuning.followed_lists import FirstLook
from ragft_pipeline.tuning.late_interaction import token_counts, token_frequency

COUNTS = "token_counts.safetensors"
_COUNTED = "passages"


def late_scores(look: FirstLook, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the scores of (question, passage) pairs, float32.

    The counts of tokens stay in the artifact, and follow an earlier version's.
    """
    encoder = Encoder.base(look.settings.embedder, look.settings.compute)
    counts = _counts(look, encoder)
    _save(counts, look.work.folder / COUNTS)
    weights = token_frequency(counts, look.languages.total())
    return weighed_scores(look.work, encoder, look.settings.late_interaction.bits, weights, pairs)


def _counts(look: FirstLook, encoder: Encoder) -> np.ndarray:
    kept = look.kept
    if kept is None or not (kept.folder / COUNTS).is_file():
        return token_counts(encoder, list(look.texts.values()))
    from safetensors.numpy import load_file

    earlier: np.ndarray = load_file(kept.folder / COUNTS)[_COUNTED]
    gone, came = (token_counts(encoder, list(own.values())) for own in (kept.gone, kept.came))
    return earlier - gone + came


def _save(counts: np.ndarray, file: Path) -> None:
    from safetensors.numpy import save_file

    save_file({_COUNTED: counts}, file)
