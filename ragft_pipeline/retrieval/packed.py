"""Encoding without padding, for BERT-like embedders on a CPU.

sentence-transformers pads every batch to its longest text and masks the padding. Here the texts of
a batch lie end to end in one matrix of tokens: the linear layers see no padding, query, key and
value are one product, and attention runs without a mask over texts of equal length. The weights
and the arithmetic are the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch.nn import functional

from ragft_pipeline.retrieval.int8 import Int8Linear
from ragft_pipeline.retrieval.threads import lone_threads

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Found = TypeVar("Found")

# Architectures made of BERT's layers, all with learned positions that end to end texts can restart.
_BERT_LIKE = ("BertModel", "RobertaModel", "XLMRobertaModel")
_TOKENS = 1024  # in a batch: more does not make the products faster, and leaves the cache
_LEAST_TOKENS = 128
_TEXTS = 512  # tokenized at a time
_KINDS = ("weight", "bias")


class Packable(Protocol):
    """A BERT-like transformer's weights, its tokenizer, and what makes a vector of its states."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The transformer's configuration."""
        ...

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Its weights by their names."""
        ...

    @property
    def first(self) -> int:
        """The position of a text's first token."""
        ...

    def ids(self, texts: Sequence[str], prompt: str | None) -> tuple[list[torch.Tensor], int]:
        """Return the token ids of texts behind a prompt, and how many lead each for the prompt.

        As in sentence-transformers, no prompt means the model's default one, where it has one.
        """
        ...

    def pooled(self, states: torch.Tensor, lengths: list[int], prompt: int) -> torch.Tensor:
        """Return the vectors of texts whose states lie end to end; `prompt` tokens lead each."""
        ...


class PackedEncoder:
    """An embedder whose transformer runs without padding.

    Args:
        model: its weights must not change afterwards.
        int8: whether the linear layers of the transformer compute in 8-bit integers.
    """

    def __init__(self, model: Packable, *, int8: bool = False) -> None:
        self._model = model
        self._bert = _Bert(model, int8)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], prompt: str | None = None) -> torch.Tensor:
        """Return the model's vectors, of shape (texts, dimension), in its own dtype."""
        ids, leading = self._tokenized(texts, prompt)
        batches = list(_batches([len(each) for each in ids]))

        def run(rows: list[int]) -> torch.Tensor:
            own = [ids[row] for row in rows]
            lengths = [len(each) for each in own]
            return self._model.pooled(self._bert(torch.cat(own), lengths), lengths, leading)

        vectors = _in_threads(run, batches)
        return torch.cat(vectors)[torch.tensor(list(chain.from_iterable(batches))).argsort()]

    @torch.inference_mode()
    def encode_tokens(
        self, texts: Sequence[str], prompt: str | None = None
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Return `encode`, and each text's token ids and last hidden states, of one pass.

        Ids are of shape (tokens,), states of shape (tokens, hidden size); the prompt's tokens are
        left out, special ones stay.
        """
        ids, leading = self._tokenized(texts, prompt)
        lengths = [len(each) for each in ids]
        batches = list(_batches(lengths))

        def run(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            own = [lengths[row] for row in rows]
            states = self._bert(torch.cat([ids[row] for row in rows]), own)
            return states, self._model.pooled(states, own, leading)

        states: dict[int, torch.Tensor] = {}
        vectors: dict[int, torch.Tensor] = {}
        for rows, (part, pooled) in zip(batches, _in_threads(run, batches)):
            states |= zip(rows, part.split([lengths[row] for row in rows]))
            vectors |= zip(rows, pooled)
        tokens = [(each[leading:], states[row][leading:]) for row, each in enumerate(ids)]
        return torch.stack([vectors[row] for row in range(len(ids))]), tokens

    def _tokenized(
        self, texts: Sequence[str], prompt: str | None
    ) -> tuple[list[torch.Tensor], int]:
        parts = [
            self._model.ids(texts[start : start + _TEXTS], prompt)
            for start in range(0, len(texts), _TEXTS)
        ]
        return [each for own, _ in parts for each in own], parts[0][1]


class LoadedModel:
    """A model that sentence-transformers has loaded, and that `can_pack` accepts."""

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        bert: Any = model.transformers_model
        self.config: Mapping[str, Any] = bert.config.to_dict()
        self.tensors: Mapping[str, torch.Tensor] = bert.state_dict()
        # RoBERTa's positions start behind the one of its padding
        padding = bert.embeddings.position_embeddings.padding_idx
        self.first = 0 if padding is None else padding + 1

    def ids(self, texts: Sequence[str], prompt: str | None) -> tuple[list[torch.Tensor], int]:
        """See `Packable`."""
        if prompt is None and self._model.default_prompt_name is not None:
            prompt = self._model.prompts.get(self._model.default_prompt_name)
        features = self._model.preprocess(list(texts), prompt=prompt)
        mask = features["attention_mask"].bool()
        ids = features["input_ids"][mask].split(mask.sum(dim=1).tolist())
        return list(ids), features.get("prompt_length") or 0

    def pooled(self, states: torch.Tensor, lengths: list[int], prompt: int) -> torch.Tensor:
        """Run the model's modules behind the transformer, which know texts end to end."""
        packed: dict[str, Any] = {
            "prompt_length": prompt,
            "token_embeddings": states[None],
            "cu_seq_lens_q": torch.tensor([0, *lengths]).cumsum(0),
        }
        for module in list(self._model.children())[1:]:
            packed = module(packed)
        vectors: torch.Tensor = packed["sentence_embedding"]
        return vectors


def can_pack(model: SentenceTransformer) -> bool:
    """Whether the model is a BERT-like transformer with known modules after it, on a CPU."""
    from sentence_transformers.sentence_transformer.modules import (
        Dense,
        Normalize,
        Pooling,
        Transformer,
    )

    first, *rest = model.children()
    bert: Any = getattr(first, "model", None)
    return (
        isinstance(first, Transformer)
        and type(bert).__name__ in _BERT_LIKE
        and bert.config.hidden_act == "gelu"
        and not bert.config.is_decoder
        and bool(rest)
        and isinstance(rest[0], Pooling)
        and all(isinstance(module, (Dense, Normalize)) for module in rest[1:])
        and model.device.type == "cpu"
        and model.truncate_dim is None
    )


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield rows, longest text first, in batches with work for every thread."""
    most = max(_LEAST_TOKENS, min(_TOKENS, sum(lengths) // torch.get_num_threads()))
    batch: list[int] = []
    tokens = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and tokens + lengths[row] > most:
            yield batch
            batch, tokens = [], 0
        batch.append(row)
        tokens += lengths[row]
    if batch:
        yield batch


def _in_threads(run: Callable[[list[int]], Found], batches: list[list[int]]) -> list[Found]:
    """Run each batch on one core: whole batches share cores better than single operations do."""
    threads = torch.get_num_threads()
    if threads == 1 or len(batches) == 1:
        return [run(batch) for batch in batches]

    def run_alone(batch: list[int]) -> Found:
        with torch.inference_mode():  # holds for the thread that enters it
            return run(batch)

    with lone_threads(min(threads, len(batches))) as pool:
        return list(pool.map(run_alone, batches))


class _Bert:
    """The layers of a BERT-like model over tokens of texts that lie end to end."""

    def __init__(self, model: Packable, int8: bool) -> None:
        tensors, config = model.tensors, model.config

        def linear(place: str, *parts: str) -> _Linear | Int8Linear:
            names = [f"{place}.{part}" for part in parts] or [place]
            weight, bias = (
                own[0] if len(own) == 1 else torch.cat(own)
                for own in ([tensors[f"{name}.{kind}"] for name in names] for kind in _KINDS)
            )
            return Int8Linear(weight, bias) if int8 else _Linear(weight, bias)

        def norm(place: str) -> Callable[[torch.Tensor], torch.Tensor]:
            weight, bias = tensors[f"{place}.LayerNorm.weight"], tensors[f"{place}.LayerNorm.bias"]
            eps = config.get("layer_norm_eps", 1e-12)
            return lambda states: functional.layer_norm(states, weight.shape, weight, bias, eps)

        self._heads = config["num_attention_heads"]
        self._first = model.first
        self._words, self._positions, types = (
            tensors[f"embeddings.{kind}_embeddings.weight"]
            for kind in ("word", "position", "token_type")
        )
        self._type = types[0]
        self._norm = norm("embeddings")
        layers = (f"encoder.layer.{number}" for number in range(config["num_hidden_layers"]))
        self._layers = [
            (
                linear(f"{layer}.attention.self", "query", "key", "value"),
                linear(f"{layer}.attention.output.dense"),
                norm(f"{layer}.attention.output"),
                linear(f"{layer}.intermediate.dense"),
                linear(f"{layer}.output.dense"),
                norm(f"{layer}.output"),
            )
            for layer in layers
        ]

    def __call__(self, ids: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        """Return the last hidden states, of shape (tokens, width), of texts sorted by length."""
        places = torch.cat([torch.arange(self._first, self._first + n) for n in lengths])
        states = self._norm(self._words[ids] + self._type + self._positions[places])
        for project, attended, norm, widen, narrow, last_norm in self._layers:
            states = norm(attended(self._attend(project(states), lengths)) + states)
            states = last_norm(narrow(functional.gelu(widen(states))) + states)
        return states

    def _attend(self, projected: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        """Attend within each text; `projected` has query, key and value of every token."""
        width = projected.shape[1] // 3
        found = projected.new_empty(len(projected), width)
        start = 0
        for length, same in groupby(lengths):
            texts = len(list(same))
            rows = slice(start, start + texts * length)
            parts = projected[rows].view(texts, length, 3, self._heads, width // self._heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            context = functional.scaled_dot_product_attention(query, key, value)
            found[rows] = context.transpose(1, 2).reshape(texts * length, width)
            start = rows.stop
        return found


class _Linear:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return functional.linear(states, self._weight, self._bias)
