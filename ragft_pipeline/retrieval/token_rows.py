"""Rows of token vectors in the store, made once a passage and model and shared by every asset.

A passage that is new gets its vector and its token vectors out of one pass where the model allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.compute import RowFunction
from ragft_pipeline.compute.mapping import batches
from ragft_pipeline.digests import digest_of, text_key
from ragft_pipeline.retrieval.encoder import Encoder, normalise_rows
from ragft_pipeline.retrieval.text_vectors import (
    Encode,
    EncodedText,
    encoded,
    vectors_table,
)
from ragft_pipeline.retrieval.token_vectors import (
    BLOCK,
    STORAGE_VERSION,
    TOKENS,
    StoredTokens,
    TokenVectors,
    codes_of,
    encode_tokens,
    store_tokens,
)
from ragft_pipeline.store import Workspace
from ragft_pipeline.store.rows import RowCache

_QUESTION_TOKENS = pa.schema(
    [
        ("row_key", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("vectors", pa.list_(pa.float32())),
    ]
)
_BOTH = 20_000  # passages whose token vectors are kept as they are first encoded


@dataclass(frozen=True)
class _Store(RowFunction[str]):
    """Rows of the token vectors of passages."""

    seconds: ClassVar[float] = 0.02
    encoder: Encoder
    bits: int

    def __call__(self, units: Sequence[str]) -> pa.Table:
        return store_tokens(self.encoder, units, self.bits).rows_table()


@dataclass(frozen=True)
class _EncodeBoth(RowFunction[EncodedText]):
    """VECTORS rows of passages, beside columns of TOKENS where one pass gives both."""

    seconds: ClassVar[float] = 0.02
    encoder: Encoder
    bits: int

    def __call__(self, units: Sequence[EncodedText]) -> pa.Table:
        if not self.encoder.one_pass:  # asked here, where the model is needed: it loads it
            return Encode(self.encoder, "document")(units)
        return pa.concat_tables([self._rows(block) for block in batches(units, BLOCK)])

    def _rows(self, units: Sequence[EncodedText]) -> pa.Table:
        vectors, found = self.encoder.encode_tokens([unit.text for unit in units], "document")
        ids, keys = [unit.text_id for unit in units], [unit.row_key for unit in units]
        rows = vectors_table(ids, keys, vectors)
        lengths = np.array([len(states) for _, states in found], np.int64)
        tokens = normalise_rows(np.concatenate([states for _, states in found]))
        identity = self.encoder.identity("document")
        stored = StoredTokens(codes_of(tokens, self.bits), lengths, keys, self.bits, identity)
        table = stored.rows_table()
        for name in ("tokens", "codes"):
            rows = rows.append_column(TOKENS.field(name), table.column(name))
        return rows


def encoded_with_tokens(
    work: Workspace, encoder: Encoder, units: Sequence[EncodedText], bits: int
) -> Iterator[pa.Table]:
    """Yield `encoded` of passages; the token vectors of those that are new are kept as well.

    They come out of the same pass, which late interaction would make again. Of very many passages
    they are not kept: it reads those of candidates alone.
    """
    if len(units) > _BOTH:
        yield from encoded(work, encoder, units, "document")
        return
    cache = _token_cache(work, encoder, bits)

    def keep(_: int, rows: pa.Table) -> None:
        if "codes" not in rows.column_names:
            return
        found = rows.select(TOKENS.names)
        keys = found.column("row_key")
        cache.complete(
            keys.to_pylist(),
            str,
            lambda new: found.filter(pc.is_in(keys, pa.array(new))),
            len(rows),
        )

    yield from encoded(work, encoder, units, "document", _EncodeBoth(encoder, bits), keep)


def token_rows(work: Workspace, encoder: Encoder, passages: Sequence[str], bits: int) -> pa.Table:
    """Return the stored token vectors of the distinct passages, in their first order, as rows.

    Only passages that no artifact holds are encoded; the rows are shared by every asset.
    """
    cache = _token_cache(work, encoder, bits)
    rows = cache.complete(list(dict.fromkeys(passages)), text_key, _Store(encoder, bits))
    places = dict(zip(rows.column("row_key").to_pylist(), range(rows.num_rows)))
    keys = list(dict.fromkeys(text_key(passage) for passage in passages))
    return rows.take([places[key] for key in keys])


def _token_cache(work: Workspace, encoder: Encoder, bits: int) -> RowCache:
    settings = digest_of(STORAGE_VERSION, encoder.identity("document"), bits)
    return work.rows("tokens_document", settings, TOKENS, family="*")


def cached_tokens(
    work: Workspace, encoder: Encoder, passages: Sequence[str], bits: int
) -> StoredTokens:
    """Return `token_rows` of passages."""
    rows = token_rows(work, encoder, passages, bits)
    return StoredTokens.of_rows(rows, bits, encoder.identity("document"))


def question_tokens(work: Workspace, encoder: Encoder, questions: Sequence[str]) -> TokenVectors:
    """Return the token vectors of questions, encoding only those that no artifact holds."""
    cache = work.rows("tokens_query", encoder.identity("query"), _QUESTION_TOKENS, family="*")
    rows = cache.complete(questions, text_key, partial(_question_rows, encoder), len(questions))
    keys = pa.array([text_key(question) for question in questions], pa.string())
    rows = rows.take(pc.index_in(keys, rows.column("row_key").combine_chunks()))
    tokens, vectors = (rows.column(name).combine_chunks() for name in ("tokens", "vectors"))
    ids = tokens.flatten().to_numpy().astype(np.int64)
    values = vectors.flatten().to_numpy().reshape(len(ids), -1) if len(ids) else np.zeros((0, 0))
    lengths = pc.list_value_length(tokens).to_numpy().astype(np.int64)
    return TokenVectors(values.astype(np.float32), ids, lengths)


def _question_rows(encoder: Encoder, questions: Sequence[str]) -> pa.Table:
    found = encode_tokens(encoder, questions, "query")
    ids = np.split(found.token_ids, np.cumsum(found.lengths)[:-1])
    vectors = [own.reshape(-1) for own in found.split()]
    columns = [[text_key(question) for question in questions], ids, vectors]
    return pa.table(columns, schema=_QUESTION_TOKENS)


@dataclass(frozen=True)
class CachedTokens:
    """The token vectors of any passages, encoded where no artifact holds them.

    They are brought as they are asked for: all of a corpus would not fit into memory.
    """

    work: Workspace
    encoder: Encoder
    bits: int

    @property
    def identity(self) -> str:
        """Of the encoder."""
        return self.encoder.identity("document")

    @property
    def width(self) -> int:
        """How many numbers a vector has."""
        return self.encoder.width

    def of(self, passages: Sequence[str]) -> StoredTokens:
        """Return those of some passages."""
        return cached_tokens(self.work, self.encoder, passages, self.bits)
