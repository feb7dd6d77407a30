"""Folds: which people's questions fit what scores the others, by document cluster, for ever.

A question's fold is a hash of the name of its document's cluster, so it stays through versions, and
a question that comes later about the same documents belongs to their fold: what the questions of
other folds fitted never saw it, nor any other question about its documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from ragft_pipeline.digests import digest_of

FOLDS = 5
Chosen = TypeVar("Chosen")


def folds_of(clusters: Sequence[str], number: int = FOLDS) -> np.ndarray:
    """Return each question's fold, int (questions,), by its document cluster."""
    return np.array([int(digest_of("fold", name)[:8], 16) % number for name in clusters], np.int64)


def agreed(
    choose: Callable[[np.ndarray], Chosen], clusters: Sequence[str], prior: Chosen
) -> Chosen:
    """Return the choice that people's questions make whichever fold of them is left out.

    So what is chosen would be the same without the questions of any one fold, and these may be
    scored by what was made with it. Where the folds do not agree it is the prior.

    Args:
        choose: a choice by some questions, bool (questions,).
        clusters: each question's document cluster.
    """
    folds = folds_of(clusters)
    found = [choose(folds != fold) for fold in np.unique(folds)]
    alike = len(found) > 1 and all(one == found[0] for one in found)
    return found[0] if alike else prior
