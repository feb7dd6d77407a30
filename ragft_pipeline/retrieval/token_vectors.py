"""Token vectors of texts, one unit vector a token, and their storage in a few bits a number.

Special tokens and the prompt's are left out. Stored vectors are turned by a fixed rotation, which
makes their coordinates alike and nearly normal for any model, and every coordinate becomes the
nearest of 2, 4, 16 or 256 levels; the length, always 1, need not be stored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from ragft_pipeline.digests import text_key
from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.encoder import Encoder, Kind, normalise_rows

if TYPE_CHECKING:
    import torch

STORAGE_VERSION = 1  # raise it when a vector would be stored as other bytes
BLOCK = 128  # texts whose hidden states are held at once
_SEED = 20
TOKENS = pa.schema([("row_key", pa.string()), ("tokens", pa.int64()), ("codes", pa.large_binary())])
_CODES_FILE, _KEYS_FILE = "token_codes.safetensors", "token_codes.json"  # bundles of format 2
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
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        for text, (ids, states) in zip(block, encoder.encode_tokens(block, kind)[1]):
            found[text] = ids.astype(np.int64), normalise_rows(states)
    return TokenVectors(
        np.concatenate([found[text][1] for text in texts] or [np.zeros((0, 0), np.float32)]),
        np.concatenate([found[text][0] for text in texts] or [np.zeros(0, np.int64)]),
        np.array([len(found[text][0]) for text in texts], np.int64),
    )


class TokenStore(Protocol):
    """Where token vectors of passages are, as codes of `bits` bits by the encoder `identity`."""

    @property
    def bits(self) -> int:
        """See StoredTokens."""

    @property
    def identity(self) -> str:
        """See StoredTokens."""

    @property
    def width(self) -> int:
        """How many numbers a vector has; 0 where there is none."""

    def of(self, passages: Sequence[str]) -> StoredTokens:
        """Return those of some passages; of one that is not there, none."""


@dataclass(frozen=True)
class StoredTokens:
    """Token vectors of passages as codes of `bits` bits a coordinate, in memory.

    Attributes:
        codes: uint8 of shape (tokens, width * bits / 8).
        lengths: how many tokens each passage has, int64 of shape (passages,).
        keys: the passages' `text_key`s.
        bits: 1, 2, 4 or 8.
        identity: of the encoder that made them.
    """

    codes: np.ndarray
    lengths: np.ndarray
    keys: list[str]
    bits: int
    identity: str

    @classmethod
    def of_rows(cls, rows: pa.Table, bits: int, identity: str) -> StoredTokens:
        """Return rows of the table that `store_tokens` gives."""
        lengths = rows.column("tokens").to_numpy().astype(np.int64)
        codes = [np.frombuffer(one.as_buffer(), np.uint8) for one in rows.column("codes")]
        flat = np.concatenate([np.empty(0, np.uint8), *codes])
        shape = (int(lengths.sum()), -1) if len(flat) else (0, 0)
        return cls(flat.reshape(shape), lengths, rows.column("row_key").to_pylist(), bits, identity)

    def rows_table(self) -> pa.Table:
        """Return them as TOKENS, one row a passage."""
        starts = np.cumsum(self.lengths) - self.lengths
        codes = [
            self.codes[start : start + length].tobytes()
            for start, length in zip(starts, self.lengths)
        ]
        columns = {"row_key": self.keys, "tokens": self.lengths, "codes": codes}
        return pa.table(columns, schema=TOKENS)

    def of(self, passages: Sequence[str]) -> StoredTokens:
        """Return itself: all of them are at hand."""
        return self

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def width(self) -> int:
        """How many numbers a vector has; 0 where there is none."""
        return int(self.codes.shape[1]) * 8 // self.bits

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.lengths)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The place of each passage, by its key."""
        return {key: row for row, key in enumerate(self.keys)}

    def vectors(self, row: int) -> np.ndarray:
        """Return a passage's vectors, rotated, float32 of shape (its tokens, width)."""
        return _decode(self._codes_of(row), self.bits)

    def vectors_on(self, device: str, rows: Sequence[int]) -> torch.Tensor:
        """Return `vectors` of some passages end to end, decoded on a device from their codes."""
        import torch
        from torch.nn import functional

        parts = [self._codes_of(row) for row in rows]
        codes = np.concatenate(parts) if parts else self.codes[:0]
        numbers = torch.from_numpy(_numbers(self.bits)).to(device)
        flat = torch.from_numpy(codes).to(device).reshape(-1).int()
        width = codes.shape[1] * numbers.shape[1]
        return functional.normalize(numbers[flat].reshape(len(codes), width), dim=1)

    def _codes_of(self, row: int) -> np.ndarray:
        return self.codes[self._ends[row] - self.lengths[row] : self._ends[row]]

    def save(self, folder: Path) -> None:
        """Save as safetensors and JSON."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"codes": self.codes, "lengths": self.lengths}, folder / _CODES_FILE)
        facts = {"bits": self.bits, "identity": self.identity, "keys": self.keys}
        (folder / _KEYS_FILE).write_text(json.dumps(facts), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> StoredTokens:
        """Load saved vectors."""
        from safetensors.numpy import load_file

        facts = json.loads((folder / _KEYS_FILE).read_text(encoding="utf-8"))
        arrays = load_file(folder / _CODES_FILE)
        return cls(
            arrays["codes"], arrays["lengths"], facts["keys"], facts["bits"], facts["identity"]
        )


def store_tokens(encoder: Encoder, passages: Sequence[str], bits: int) -> StoredTokens:
    """Encode passages and return their token vectors as codes."""
    tokens = encode_tokens(encoder, passages, "document")
    keys = [text_key(passage) for passage in passages]
    codes = codes_of(tokens.vectors, bits)
    return StoredTokens(codes, tokens.lengths, keys, bits, encoder.identity("document"))


class MappedTokens:
    """Token vectors that stay in files.

    Args:
        segments: tables (row_key, tokens, codes), mapped.
        bits, identity: see StoredTokens.
    """

    def __init__(self, segments: Sequence[pa.Table], bits: int, identity: str) -> None:
        self._segments = segments
        self.bits, self.identity = bits, identity
        keys = [np.array(rows.column("row_key").to_pylist(), "S32") for rows in segments]
        whole = np.concatenate([np.empty(0, "S32"), *keys])
        self._order = np.argsort(whole, kind="stable")
        self._keys = whole[self._order]
        self._starts = np.cumsum([0, *map(len, keys)])

    @property
    def width(self) -> int:
        """How many numbers a vector has; 0 where there is none."""
        some = (rows.slice(at, 1) for rows in self._segments for at in range(len(rows)))
        found = (StoredTokens.of_rows(row, self.bits, self.identity).width for row in some)
        return next((width for width in found if width), 0)

    def of(self, passages: Sequence[str]) -> StoredTokens:
        """Return those of some passages."""
        wanted = np.unique(np.array([text_key(passage) for passage in passages], "S32"))
        at = np.searchsorted(self._keys, wanted)
        there = at < len(self._keys)
        there[there] = self._keys[at[there]] == wanted[there]
        places = np.sort(self._order[at[there]])
        segments = np.searchsorted(self._starts, places, side="right") - 1
        parts = [
            self._segments[segment].take(places[segments == segment] - self._starts[segment])
            for segment in np.unique(segments)
        ]
        rows = pa.concat_tables([TOKENS.empty_table(), *parts])
        return StoredTokens.of_rows(rows, self.bits, self.identity)


@lru_cache(maxsize=4)
def rotation(width: int) -> np.ndarray:
    """Return a fixed random rotation, float32 of shape (width, width): the same everywhere."""
    normal = np.random.default_rng(_SEED).normal(size=(width, width))
    orthogonal, triangle = np.linalg.qr(normal)
    return (orthogonal * np.sign(np.diag(triangle))).astype(np.float32)


def codes_of(vectors: np.ndarray, bits: int) -> np.ndarray:
    """Return unit vectors as codes, uint8 of shape (tokens, width * bits / 8)."""
    width = vectors.shape[1]
    if width * bits % 8:
        raise RagftError(f"token vectors of width {width} do not fill bytes at {bits} bits")
    levels = _levels(bits)
    edges = (levels[1:] + levels[:-1]) / 2
    coordinates = (vectors @ rotation(width)) * np.sqrt(width)
    codes = np.searchsorted(edges, coordinates).astype(np.uint8)
    places = 8 // bits
    parts = codes.reshape(len(vectors), width // places, places)
    shifts = np.arange(places, dtype=np.uint8) * np.uint8(bits)
    return np.bitwise_or.reduce(parts << shifts, axis=2)


def _decode(codes: np.ndarray, bits: int) -> np.ndarray:
    if not len(codes):
        return np.zeros((0, 0), np.float32)
    vectors = np.take(_numbers(bits), codes, axis=0).reshape(len(codes), -1)
    vectors /= np.sqrt(np.einsum("tw,tw->t", vectors, vectors))[:, None]  # no level is zero
    return vectors


def _levels(bits: int) -> np.ndarray:
    positive = np.array(_LEVELS[bits], np.float32)
    return np.concatenate([-positive[::-1], positive])


@lru_cache(maxsize=4)
def _numbers(bits: int) -> np.ndarray:
    """Return the numbers that each byte holds, shape (256, numbers a byte)."""
    places = 8 // bits
    byte = np.arange(256)[:, None] >> (np.arange(places) * bits)
    return _levels(bits)[byte & ((1 << bits) - 1)]
