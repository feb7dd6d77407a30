"""The one encoder: texts to unit vectors with a sentence-transformers model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

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

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of the tokens that are read of texts, without special ones and prompts."""
        if self._folder is not None:
            encoded = self._folder.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            return [each.ids for each in encoded]
        cut = self.model.tokenizer(list(texts), truncation=True, add_special_tokens=False)
        return [list(ids) for ids in cut["input_ids"]]

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        if self._folder is not None:
            return int(self._folder.tokenizer.get_vocab_size())
        return len(self.model.tokenizer)

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
