"""The one encoder: texts to unit vectors with a sentence-transformers model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.compute import RowFunction
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.devices import pick_device, pick_dtype, texts_at_once
from ragft_pipeline.models.features import quicken
from ragft_pipeline.models.quiet import quiet_transformers
from ragft_pipeline.models.weights import (
    Weights,
    embedder_prompts,
    folder_digest,
    found_here,
    require_embedder,
    resolve_weights,
)
from ragft_pipeline.settings import ComputeSettings, EmbedderSettings
from ragft_pipeline.store import Workspace
from ragft_pipeline.store.scratch import scratch_array

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

    from ragft_pipeline.retrieval.model_folder import BertFolder, StaticFolder
    from ragft_pipeline.retrieval.packed import PackedEncoder

Kind = Literal["query", "document"]
KINDS: tuple[Kind, Kind] = ("query", "document")
ENCODER_VERSION = 1  # raise it when some text would get another vector


class Encoder:
    """Encodes questions and documents; the model loads on first use.

    Args:
        weights: the model's folder and digest.
        embedder: prompts, the length limit and whether its own code may run.
        compute: device, type and batch size.
    """

    def __init__(
        self, weights: Weights, embedder: EmbedderSettings, compute: ComputeSettings
    ) -> None:
        self.weights = weights
        self._embedder = embedder
        self._compute = compute
        self._model: SentenceTransformer | None = None
        self._documents: Encoder | None = None

    @classmethod
    def base(cls, embedder: EmbedderSettings, compute: ComputeSettings) -> Encoder:
        """Return the encoder of the base model named in the settings."""
        return cls(require_embedder(resolve_weights(embedder.model)), embedder, compute)

    @classmethod
    def tuned(cls, folder: Path, embedder: EmbedderSettings, compute: ComputeSettings) -> Encoder:
        """Return the encoder of a tuned model's folder, used as its base is.

        Where the query tower alone was tuned, documents keep the base model's vectors.
        """
        encoder = cls(
            Weights(str(folder), folder.absolute(), folder_digest(folder)), embedder, compute
        )
        card = folder / "ragft_card.json"
        if card.is_file() and json.loads(card.read_text("utf-8")).get("document_tower") == "base":
            encoder._documents = cls.base(embedder, compute)
        return encoder

    @property
    def documents(self) -> Encoder:
        """The encoder of documents: the base's where the query tower alone was tuned, else this."""
        return self._documents or self

    def __getstate__(self) -> dict[str, Any]:
        """Pickle what the encoder is, not what it has loaded."""
        loaded = ("_packed", "_folder")
        kept = {name: value for name, value in vars(self).items() if name not in loaded}
        return {**kept, "_model": None}

    def identity(self, kind: Kind) -> str:
        """Return a digest of what decides a text's vector: weights, prompt, length limit, type."""
        if kind == "document" and self._documents is not None:
            return self._documents.identity(kind)
        return digest_of(
            ENCODER_VERSION,
            self.weights.digest,
            self._prompt(kind),
            self._embedder.max_tokens,
            self._compute.dtype,
        )

    def _prompt(self, kind: Kind) -> str:
        return prompt_of(self.weights, self._embedder, kind)

    @property
    def device(self) -> str:
        """The torch device that it computes on."""
        return pick_device(self._compute)

    @property
    def model(self) -> SentenceTransformer:
        """The sentence-transformers model, loaded for inference."""
        if self._model is None:
            self._model = load_sentence_transformer(
                found_here(self.weights), self._embedder, self.device, pick_dtype(self._compute)
            )
        return self._model

    def encode(
        self,
        texts: Sequence[str],
        kind: Kind,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Return unit vectors, float32 of shape (texts, dimension)."""
        if kind == "document" and self._documents is not None:
            return self._documents.encode(texts, kind, progress)
        if not texts:
            return np.zeros((0, self.width), np.float32)
        prompt = self._prompt(kind) or None
        if self._packed is not None:
            return normalise_rows(self._packed.encode(texts, prompt).float().numpy())
        vectors = self.model.encode(
            list(texts),
            prompt=prompt,
            batch_size=self._texts_at_once(),
            normalize_embeddings=True,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return normalise_rows(vectors.float().cpu().numpy())

    @property
    def one_pass(self) -> bool:
        """Whether documents' vectors and token vectors come out of one pass.

        Not in integers, and not of a model without token states, such as a mean of word vectors.
        """
        if self._compute.dtype == "int8" or self._documents is not None:
            return False
        from ragft_pipeline.retrieval.model_folder import BertFolder

        if self._folder is not None:
            return isinstance(self._folder, BertFolder)
        return self.model.transformers_model is not None

    @property
    def width(self) -> int:
        """How many numbers a vector has."""
        width = self._folder.width if self._folder else self.model.get_embedding_dimension()
        return int(width or 0)

    def load(self) -> None:
        """Load what encodes, as the first text would."""
        _ = self._packed or self.model

    @cached_property
    def _folder(self) -> BertFolder | StaticFolder | None:
        """The model read from its folder, where it computes on a CPU and is of a usual kind."""
        if self.device != "cpu":
            return None
        from ragft_pipeline.retrieval.model_folder import read_model_folder

        folder = found_here(self.weights).folder
        prompts = {str(kind): prompt for kind in KINDS if (prompt := self._prompt(kind))}
        return read_model_folder(
            folder, prompts, self._embedder.max_tokens, pick_dtype(self._compute)
        )

    @cached_property
    def _packed(self) -> PackedEncoder | StaticFolder | None:
        from ragft_pipeline.retrieval.model_folder import StaticFolder
        from ragft_pipeline.retrieval.packed import LoadedModel, PackedEncoder, can_pack

        if isinstance(self._folder, StaticFolder):
            return self._folder
        int8 = self._compute.dtype == "int8"
        if self._folder is not None:
            return PackedEncoder(self._folder, int8=int8)
        return PackedEncoder(LoadedModel(self.model), int8=int8) if can_pack(self.model) else None

    def encode_tokens(
        self, texts: Sequence[str], kind: Kind
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Return `encode`, and each text's token ids and last hidden states, of one pass.

        Ids are of shape (tokens,), states float32 of shape (tokens, hidden size), both without
        special and prompt tokens. They are never computed in 8-bit integers, nor then the vectors.
        """
        import torch

        if kind == "document" and self._documents is not None:
            return self._documents.encode_tokens(texts, kind)
        if not texts:
            return self.encode(texts, kind), []
        special = torch.tensor(sorted(self._special_tokens))
        vectors, tokens = self._one_pass(list(texts), self._prompt(kind) or None)
        found = []
        for ids, states in tokens:
            keep = ~torch.isin(ids, special)
            found.append((ids[keep].numpy(), states[keep].float().numpy()))
        return normalise_rows(vectors.float().numpy()), found

    @property
    def _special_tokens(self) -> Collection[int]:
        """Ids of the tokens that are no text's own."""
        known = getattr(self._folder, "special", None)
        return self.model.tokenizer.all_special_ids if known is None else known

    def _one_pass(
        self, texts: list[str], prompt: str | None
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Return vectors, and the ids and states of each text's own tokens, special ones too.

        What a batch has is fetched from its device at once, not text by text.
        """
        import torch

        from ragft_pipeline.retrieval.packed import PackedEncoder

        if isinstance(self._packed, PackedEncoder) and self._compute.dtype != "int8":
            return self._packed.encode_tokens(texts, prompt)
        from sentence_transformers.util import batch_to_device

        if prompt is None and self.model.default_prompt_name is not None:
            prompt = self.model.prompts.get(self.model.default_prompt_name)
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        size = self._texts_at_once()
        vectors: list[torch.Tensor] = []
        found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.model.eval()
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            features = self.model.preprocess([texts[place] for place in batch], prompt=prompt)
            with torch.inference_mode():
                output = self.model(batch_to_device(features, self.model.device))
                attended = output["attention_mask"].bool()
                own = attended & (attended.cumsum(1) > (output.get("prompt_length") or 0))
                parts = (output["input_ids"][own].cpu(), output["token_embeddings"][own].cpu())
                vectors.append(output["sentence_embedding"].cpu())
            lengths = own.sum(dim=1).tolist()
            found |= zip(batch, zip(*(part.split(lengths) for part in parts)))
        places = torch.tensor(order).argsort()
        pooled = torch.cat(vectors)[places, : self.model.truncate_dim]
        return pooled, [found[place] for place in range(len(texts))]

    def _texts_at_once(self) -> int:
        limit = self.model.max_seq_length or self._embedder.max_tokens
        tokens = int(min(limit, self._embedder.max_tokens))
        return texts_at_once(self._compute, tokens, self.model.transformers_model)


def prompt_of(weights: Weights, embedder: EmbedderSettings, kind: Kind) -> str:
    """Return what is put before a text: by the settings, else by the model's own folder."""
    given = embedder.query_prompt if kind == "query" else embedder.document_prompt
    return given if given is not None else embedder_prompts(weights.folder).get(kind, "")


def load_sentence_transformer(
    weights: Weights, embedder: EmbedderSettings, device: str, dtype: torch.dtype
) -> SentenceTransformer:
    """Load a sentence-transformers model from a folder; RagftError where it is not one.

    It has the settings' prompts and length, and takes them along where it is saved: its
    `encode_query` and `encode_document` give an encoder's vectors.
    """
    quiet_transformers()
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(
            str(weights.folder),
            device=device,
            trust_remote_code=embedder.trust_remote_code,
            local_files_only=True,
            model_kwargs={"dtype": dtype},
        )
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RagftError(f"model {weights.name!r} cannot be loaded: {first[:300]}") from None
    quicken(model)
    limit = model.max_seq_length or embedder.max_tokens
    if math.isfinite(limit):  # a mean of word vectors has none, and reads whole texts
        model.max_seq_length = min(embedder.max_tokens, limit)
    own = model.prompts.get(model.default_prompt_name or "", "")  # what no prompt means
    model.prompts |= {kind: prompt_of(weights, embedder, kind) or own for kind in KINDS}
    return model


def normalise_rows(vectors: np.ndarray) -> np.ndarray:
    """Return rows scaled to length 1 (a zero row stays zero), float32."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


@dataclass(frozen=True)
class EncodedText:
    """A text to encode: the row key of its vector, the id it goes by, and the text."""

    row_key: str
    text_id: str
    text: str


@dataclass(frozen=True)
class Encode(RowFunction[EncodedText]):
    """VECTORS rows of texts."""

    seconds: ClassVar[float] = 0.01
    encoder: Encoder
    kind: Kind

    def __call__(self, units: Sequence[EncodedText]) -> pa.Table:
        """Encode the texts."""
        vectors = self.encoder.encode([unit.text for unit in units], self.kind)
        ids, keys = [unit.text_id for unit in units], [unit.row_key for unit in units]
        return vectors_table(ids, keys, vectors)


def units_of(texts: Mapping[str, str]) -> list[EncodedText]:
    """Return texts (id to text) as units of the rows of their vectors."""
    return [EncodedText(digest_of(text)[:32], name, text) for name, text in texts.items()]


def encoded(
    work: Workspace,
    encoder: Encoder,
    units: Sequence[EncodedText],
    kind: Kind,
    encode: RowFunction[EncodedText] | None = None,
    done: Callable[[int, pa.Table], None] = lambda units, rows: None,
) -> Iterator[pa.Table]:
    """Yield the VECTORS rows of texts part by part, encoding only texts no artifact holds.

    Args:
        encode: makes the rows, and more that `done` is told of; by default `Encode`.
        done: see `RowCache.complete`.
    """
    cache = work.rows(f"vectors_{kind}", encoder.identity(kind), schemas.VECTORS.schema, family="*")
    key = attrgetter("row_key")
    yield from cache.batches(units, key, encode or Encode(encoder, kind), 1024, done)


def cached_vectors(
    work: Workspace, encoder: Encoder, texts: dict[str, str], kind: Kind
) -> tuple[list[str], np.ndarray]:
    """Return vectors of `texts` (id to text), encoding only texts no artifact holds.

    The rows are shared by every asset, so a text is encoded once for each model.

    Returns the ids in the order of `texts`, and float32 vectors of shape (texts, dimension), mapped
    from a file where they are many.
    """
    units = units_of(texts)
    return list(texts), gathered(work, units, encoded(work, encoder, units, kind))


def gathered(
    work: Workspace, units: Sequence[EncodedText], parts: Iterable[pa.Table]
) -> np.ndarray:
    """Return the vectors of units out of their VECTORS rows, in the units' order."""
    place: dict[str, int] = {}
    again = [  # of a text that stands there before: its place, and the first one's
        (row, first)
        for row, unit in enumerate(units)
        if (first := place.setdefault(unit.row_key, row)) != row
    ]
    matrix = np.zeros((0, 0), np.float32)
    for rows in parts:
        if not matrix.size:
            width = len(rows.column("vector")[0])
            matrix = scratch_array(work.store.root, (len(units), width))
        matrix[[place[row_key] for row_key in rows.column("row_key").to_pylist()]] = vectors_matrix(
            rows
        )
    for row, first in again:
        matrix[row] = matrix[first]
    return matrix


def vectors_table(ids: Sequence[str], row_keys: Sequence[str], vectors: np.ndarray) -> pa.Table:
    """Return a VECTORS table."""
    width = vectors.shape[1]
    offsets = pa.array(np.arange(0, (len(ids) + 1) * width, width, dtype=np.int32))
    values = pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1), pa.float32()))
    return pa.table(
        {"row_key": list(row_keys), "text_id": list(ids), "vector": values},
        schema=schemas.VECTORS.schema,
    )


def vectors_matrix(table: pa.Table) -> np.ndarray:
    """Return the vectors of a VECTORS table, float32 of shape (rows, dimension)."""
    if not table.num_rows:
        return np.zeros((0, 0), np.float32)
    column = table.column("vector").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(table.num_rows, -1), dtype=np.float32)
