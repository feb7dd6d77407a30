"""The general-ability guard: a tuned model should still read other text as its base does.

The text is the project's own and about nothing in particular. Its paragraphs take turns: one half
chooses how strongly a tuning applies, the other half reports.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import numpy as np

_FILE = "guard.txt"
Half = Literal["choosing", "reporting"]


def guard_texts(half: Half) -> list[str]:
    """Return the paragraphs of one half."""
    text = files("ragft_pipeline.answering").joinpath(_FILE).read_text(encoding="utf-8")
    paragraphs = [" ".join(one.split()) for one in text.split("\n\n") if one.strip()]
    return paragraphs[0 if half == "choosing" else 1 :: 2]


def perplexity_change(tuned: np.ndarray, base: np.ndarray) -> float:
    """Return how much higher the tuned perplexity is, as a share of the base's.

    Args:
        tuned, base: mean losses of the same texts, in nats a token.
    """
    return float(np.exp(np.mean(tuned) - np.mean(base)) - 1)
