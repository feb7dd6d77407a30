"""Encoding without padding, for BERT-like embedders on a CPU.

sentence-transformers pads every batch to its longest text and masks the padding. Here the texts of
a batch lie end to end in one matrix of tokens: the linear layers see no padding, query, key and
value are one product, and attention runs without a mask over texts of equal length. The weights
and the arithmetic are the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, TypeVar

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


class PackedEncoder:
    """A sentence-transformers model whose transformer runs without padding.

    Args:
        model: one that `can_pack` accepts; its weights must not change afterwards.
        int8: whether the linear layers of the transformer compute in 8-bit integers.
    """

    def __init__(self, model: SentenceTransformer, *, int8: bool = False) -> None:
        self._model = model
        self._bert = _Bert(model.transformers_model, int8)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], prompt: str | None = None) -> torch.Tensor:
        """Return the model's vectors, of shape (texts, dimension), in its own dtype.

        As in sentence-transformers, no prompt means the model's default one, where it has one.
        """
        ids, known = self._tokenized(texts, prompt)
        batches = list(_batches([len(each) for each in ids]))

        def run(rows: list[int]) -> torch.Tensor:
            own = [ids[row] for row in rows]
            lengths = [len(each) for each in own]
            return self._pooled(self._bert(torch.cat(own), lengths), lengths, known)

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
        ids, known = self._tokenized(texts, prompt)
        lengths = [len(each) for each in ids]
        batches = list(_batches(lengths))

        def run(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            own = [lengths[row] for row in rows]
            states = self._bert(torch.cat([ids[row] for row in rows]), own)
            return states, self._pooled(states, own, known)

        first = known.get("prompt_length") or 0
        states: dict[int, torch.Tensor] = {}
        vectors: dict[int, torch.Tensor] = {}
        for rows, (part, pooled) in zip(batches, _in_threads(run, batches)):
            states |= zip(rows, part.split([lengths[row] for row in rows]))
            vectors |= zip(rows, pooled)
        tokens = [(each[first:], states[row][first:]) for row, each in enumerate(ids)]
        return torch.stack([vectors[row] for row in range(len(ids))]), tokens

    def _tokenized(
        self, texts: Sequence[str], prompt: str | None
    ) -> tuple[list[torch.Tensor], dict[str, Any]]:
        """Return the token ids of each text, and what the model's other modules need to know."""
        if prompt is None and self._model.default_prompt_name is not None:
            prompt = self._model.prompts.get(self._model.default_prompt_name)
        ids: list[torch.Tensor] = []
        known: dict[str, Any] = {}
        for start in range(0, len(texts), _TEXTS):
            part = list(texts[start : start + _TEXTS])
            features = self._model.preprocess(part, prompt=prompt)
            mask = features["attention_mask"].bool()
            ids += features["input_ids"][mask].split(mask.sum(dim=1).tolist())
            known = {name: features[name] for name in ("prompt_length",) if name in features}
        return ids, known

    def _pooled(
        self, states: torch.Tensor, lengths: list[int], known: dict[str, Any]
    ) -> torch.Tensor:
        """Run the model's modules behind the transformer, which know texts end to end."""
        packed = {
            **known,
            "token_embeddings": states[None],
            "cu_seq_lens_q": torch.tensor([0, *lengths]).cumsum(0),
        }
        for module in list(self._model.children())[1:]:
            packed = module(packed)
        return packed["sentence_embedding"]


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

    def __init__(self, bert: Any, int8: bool) -> None:
        def linear(*parts: torch.nn.Linear) -> Any:
            weight = torch.cat([part.weight.detach() for part in parts])
            bias = torch.cat([part.bias.detach() for part in parts])
            return Int8Linear(weight, bias) if int8 else _Linear(weight, bias)

        self._heads = bert.config.num_attention_heads
        self._embeddings = bert.embeddings
        # RoBERTa's positions start behind the one of its padding
        padding = bert.embeddings.position_embeddings.padding_idx
        self._first = 0 if padding is None else padding + 1
        self._layers = [
            (
                linear(
                    *(getattr(layer.attention.self, name) for name in ("query", "key", "value"))
                ),
                linear(layer.attention.output.dense),
                layer.attention.output.LayerNorm,
                linear(layer.intermediate.dense),
                linear(layer.output.dense),
                layer.output.LayerNorm,
            )
            for layer in bert.encoder.layer
        ]

    def __call__(self, ids: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        """Return the last hidden states, of shape (tokens, width), of texts sorted by length."""
        positions = torch.cat([torch.arange(self._first, self._first + n) for n in lengths])
        states = self._embeddings(input_ids=ids[None], position_ids=positions[None])[0]
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
