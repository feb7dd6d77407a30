"""Token vectors of texts, one unit vector a token, and their storage in a few bits a number.

Special tokens and the prompt's are left out. Stored vectors are turned by a fixed rotation, which
makes their coordinates alike and nearly normal for any model, and every coordinate becomes the
nearest of 2, 4, 16 or 256 levels; the length, always 1, need not be stored. A stored row depends on
the text and the model alone, so it is reused for as long as both stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from ragft_pipeline.retrieval.encoder import Encoder, Kind, normalise_rows
from ragft_pipeline.store import Workspace, digest_of

STORAGE_VERSION = 1  # raise it when a vector would be stored as other bytes
BITS = (1, 2, 4, 8)
_BLOCK = 128  # texts whose hidden states are held at once
_SEED = 20
_SCHEMA = pa.schema(
    [("row_key", pa.string()), ("text_id", pa.string()), ("tokens", pa.int32())]
    + [("codes", pa.large_binary())]
)
# Max 1960: the levels of least squared error for normal numbers; the same below zero.
_LEVELS = {
    1: (0.7979,),
    2: (0.4528, 1.510),
    4: (0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733),
    8: tuple((i + 0.5) / 32 for i in range(128)),
}


@dataclass(frozen=True)
class TokenVectors:
    """Token vectors of texts, end to end.

    Attributes:
        vectors: unit vectors, float32 of shape (tokens, width).
        token_ids: int64 of shape (tokens,).
        lengths: how many tokens each text has, int64 of shape (texts,).
    """

    vectors: np.ndarray
    token_ids: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def split(self) -> list[np.ndarray]:
        """Return the vectors of each text, shape (its tokens, width)."""
        return np.split(self.vectors, np.cumsum(self.lengths)[:-1]) if len(self) else []


def encode_tokens(encoder: Encoder, texts: Sequence[str], kind: Kind) -> TokenVectors:
    """Return the token vectors of `texts`; each distinct text is encoded once."""
    order = sorted(dict.fromkeys(texts), key=len, reverse=True)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        for text, (ids, states) in zip(block, encoder.encode_tokens(block, kind)):
            found[text] = ids.astype(np.int64), normalise_rows(states)
    return TokenVectors(
        np.concatenate([found[text][1] for text in texts] or [np.zeros((0, 0), np.float32)]),
        np.concatenate([found[text][0] for text in texts] or [np.zeros(0, np.int64)]),
        np.array([len(found[text][0]) for text in texts], np.int64),
    )


@dataclass(frozen=True)
class StoredTokens:
    """Token vectors of passages as codes of `bits` bits a coordinate.

    Attributes:
        codes: uint8 of shape (tokens, width * bits / 8).
        lengths: how many tokens each passage has, int64 of shape (passages,).
        width: of a vector.
        bits: 1, 2, 4 or 8.
    """

    codes: np.ndarray
    lengths: np.ndarray
    width: int
    bits: int

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def bytes(self) -> int:
        """Bytes of all codes."""
        return int(self.codes.nbytes)

    def passages(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return rotated unit vectors of some passages, float32 of shape (its tokens, width)."""
        ends = np.cumsum(self.lengths)
        pieces = [self.codes[ends[row] - self.lengths[row] : ends[row]] for row in rows]
        return [_decode(piece, self.width, self.bits) for piece in pieces]


def store_tokens(tokens: TokenVectors, bits: int) -> StoredTokens:
    """Return the vectors as codes."""
    width = tokens.vectors.shape[1]
    return StoredTokens(_codes(tokens.vectors, bits), tokens.lengths, width, bits)


def stored_tokens(
    work: Workspace, encoder: Encoder, texts: dict[str, str], bits: int
) -> StoredTokens:
    """Return the stored token vectors of `texts` (id to passage), in their order.

    Only passages that no artifact holds are encoded; the rows are shared by every asset.
    """
    settings = digest_of(STORAGE_VERSION, encoder.identity("document"), bits)
    cache = work.rows("tokens_document", settings, _SCHEMA, family="*")
    keys = {text_id: digest_of(text)[:32] for text_id, text in texts.items()}

    def encode(batch: Sequence[str]) -> pa.Table:
        tokens = encode_tokens(encoder, [texts[text_id] for text_id in batch], "document")
        stored = store_tokens(tokens, bits)
        ends = np.cumsum(stored.lengths)
        return pa.table(
            {
                "row_key": [keys[text_id] for text_id in batch],
                "text_id": list(batch),
                "tokens": stored.lengths,
                "codes": [
                    stored.codes[end - length : end].tobytes()
                    for end, length in zip(ends, stored.lengths)
                ],
            },
            schema=_SCHEMA,
        )

    rows = cache.complete(list(texts), keys.__getitem__, encode)
    places = dict(zip(rows.column("row_key").to_pylist(), range(rows.num_rows)))
    table = rows.take([places[key] for key in keys.values()])
    width = encoder.model.get_embedding_dimension() or 0
    flat = b"".join(value.as_buffer() for value in table.column("codes"))
    codes = np.frombuffer(flat, np.uint8).reshape(-1, width * bits // 8)
    return StoredTokens(codes, table.column("tokens").to_numpy().astype(np.int64), width, bits)


@lru_cache(maxsize=4)
def rotation(width: int) -> np.ndarray:
    """Return a fixed random rotation, float32 of shape (width, width): the same everywhere."""
    normal = np.random.default_rng(_SEED).normal(size=(width, width))
    orthogonal, triangle = np.linalg.qr(normal)
    return (orthogonal * np.sign(np.diag(triangle))).astype(np.float32)


def _codes(vectors: np.ndarray, bits: int) -> np.ndarray:
    width = vectors.shape[1]
    levels = _levels(bits)
    edges = (levels[1:] + levels[:-1]) / 2
    coordinates = (vectors @ rotation(width)) * np.sqrt(width)
    codes = np.searchsorted(edges, coordinates).astype(np.uint8)
    places = 8 // bits
    parts = codes.reshape(len(vectors), width // places, places)
    shifts = np.arange(places, dtype=np.uint8) * np.uint8(bits)
    return np.bitwise_or.reduce(parts << shifts, axis=2)


def _decode(codes: np.ndarray, width: int, bits: int) -> np.ndarray:
    return normalise_rows(_numbers(bits)[codes].reshape(len(codes), width))


def _levels(bits: int) -> np.ndarray:
    positive = np.array(_LEVELS[bits], np.float32)
    return np.concatenate([-positive[::-1], positive])


@lru_cache(maxsize=4)
def _numbers(bits: int) -> np.ndarray:
    """Return the numbers that each byte holds, shape (256, numbers a byte)."""
    places = 8 // bits
    byte = np.arange(256)[:, None] >> (np.arange(places) * bits)
    return _levels(bits)[byte & ((1 << bits) - 1)]
