"""The best cosines of a question's tokens in a passage, kept by pair.

MaxSim weighs and adds them, so where only the weights of tokens are others nothing is encoded or
compared again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.digests import digest_of
from ragft_pipeline.retrieval.encoder import KINDS, Encoder
from ragft_pipeline.retrieval.late_interaction import (
    MAXSIM_VERSION,
    STRETCH,
    LateInteraction,
)
from ragft_pipeline.retrieval.maxsim import blended
from ragft_pipeline.retrieval.question_tuning import QuestionTuning
from ragft_pipeline.retrieval.terms import runs
from ragft_pipeline.retrieval.token_rows import CachedTokens, question_tokens
from ragft_pipeline.retrieval.token_vectors import STORAGE_VERSION
from ragft_pipeline.store import Workspace

_SCHEMA = pa.schema(
    [
        ("row_key", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("cosines", pa.list_(pa.float32())),
    ]
)
"""A pair's question tokens, and their best cosines in the passage and in each of its stretches."""
_PAIRS = 8192  # compared at once
_Unit = tuple[str, str, str]  # the row key of a pair, its question and its passage


def weighed_scores(
    work: Workspace,
    encoder: Encoder,
    bits: int,
    weights: np.ndarray,
    pairs: Sequence[tuple[str, str]],
) -> np.ndarray:
    """Return late interaction's scores of (question, passage) pairs, float32.

    Args:
        bits: of the stored token vectors of passages.
        weights: how much a token of a question counts, by token id, float32 (vocabulary,).
    """
    stored = CachedTokens(work, encoder, bits)
    if encoder.device != "cpu":  # a card compares them faster than they are looked up
        tuning = QuestionTuning(encoder.weights.digest, weights)
        return LateInteraction(encoder, tuning, stored).score(pairs)
    asked = partial(question_tokens, work, encoder)
    late = LateInteraction(encoder, None, stored, questions=asked)

    def compare(units: Sequence[_Unit]) -> pa.Table:
        found = late.compared([unit[1:] for unit in units])
        tokens, cosines = zip(*((own, best.reshape(-1)) for own, best in found))
        return pa.table([[unit[0] for unit in units], tokens, cosines], schema=_SCHEMA)

    sides = [encoder.identity(kind) for kind in KINDS]
    row_settings = digest_of(MAXSIM_VERSION, STORAGE_VERSION, bits, sides)
    cache = work.rows("token_cosines", row_settings, _SCHEMA, family="*")
    keys = [digest_of(*pair)[:32] for pair in pairs]
    units = sorted(((key, *pair) for key, pair in zip(keys, pairs)), key=itemgetter(2, 0))
    rows = cache.complete(units, itemgetter(0), compare, _PAIRS)
    at = pc.index_in(pa.array(keys, pa.string()), rows.column("row_key").combine_chunks())
    return _weighed(rows, weights)[at.to_numpy()]


def _weighed(rows: pa.Table, weights: np.ndarray) -> np.ndarray:
    """Return the scores of rows; 0 where the question or the passage has no tokens."""
    tokens, cosines = (rows.column(name).combine_chunks() for name in ("tokens", "cosines"))
    scores = np.zeros(rows.num_rows, np.float32)
    lengths, sizes = (pc.list_value_length(own).to_numpy() for own in (tokens, cosines))
    some = np.flatnonzero(sizes)
    if not len(some):
        return scores
    tokens, lengths, sizes = tokens.take(pa.array(some)), lengths[some], sizes[some]
    starts = np.cumsum(lengths) - lengths
    shares = weights[tokens.flatten().to_numpy()]
    shares = shares / np.repeat(np.maximum(np.add.reduceat(shares, starts), 1e-9), lengths)
    levels = sizes // lengths
    each = np.repeat(lengths, levels)
    products = cosines.flatten().to_numpy() * shares[runs(np.repeat(starts, levels), each)]
    sums = np.add.reduceat(products, np.cumsum(each) - each)
    first = np.cumsum(levels) - levels
    whole = sums[first]
    sums[first] = -np.inf
    scores[some] = blended(whole, np.maximum.reduceat(sums, first), STRETCH)
    return scores
