"""An embedder's folder, read without the libraries that can read every folder.

Importing sentence-transformers and all that it needs takes some five CPU seconds: most of what a
run costs that encodes a handful of new texts. The usual folders are read here: BERT-like
transformers with WordPiece, pooling and what comes behind, and static word vectors. A folder that
says anything unknown here is left to sentence-transformers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import EllipsisType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional

Layer = Callable[[torch.Tensor], torch.Tensor]
_Known = Mapping[str, Collection[Any] | EllipsisType]

_FROM_PADDING = ("roberta", "xlm-roberta")  # their positions begin behind the padding's
_AS_IT_IS = ("PreTrainedTokenizerFast", "TokenizersBackend")
_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
_WORDS = "embeddings.word_embeddings.weight"
_LAYER = (
    *(f"attention.self.{name}" for name in ("query", "key", "value")),
    "attention.output.dense", "attention.output.LayerNorm",
    "intermediate.dense", "output.dense", "output.LayerNorm",
)  # fmt: skip
_ACTIVATIONS: Mapping[str, Layer] = {
    "torch.nn.modules.activation.Tanh": torch.tanh,
    "torch.nn.modules.linear.Identity": lambda vectors: vectors,
}
# What files may say, and with which values the model is what is made of it here; ...: any.
_SENTENCE_BERT: _Known = {
    "max_seq_length": ...,
    "do_lower_case": (False,),
    "transformer_task": ("feature-extraction",),
    "modality_config": (
        {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    ),
    "module_output_name": ("token_embeddings",),
}
_SENTENCE_TRANSFORMERS: _Known = {
    "__version__": ...,
    "default_prompt_name": ...,
    "model_type": ("SentenceTransformer",),
    "prompts": ...,
    "similarity_fn_name": ...,
    "truncate_dim": (None,),
}
_POOLS: _Known = {
    "embedding_dimension": ...,
    "word_embedding_dimension": ...,
    "include_prompt": (True, False),
    "pooling_mode": ("cls", "mean", "max"),
    **dict.fromkeys(_POOLING, (True, False)),
    "pooling_mode_mean_sqrt_len_tokens": (False,),
    "pooling_mode_weightedmean_tokens": (False,),
    "pooling_mode_lasttoken": (False,),
}
_DENSE: _Known = {
    "in_features": ...,
    "out_features": ...,
    "bias": (True, False),
    "activation_function": _ACTIVATIONS,
    "module_input_name": ("sentence_embedding",),
    "module_output_name": ("sentence_embedding", None),
    "use_residual": (False,),
}
_NORMALIZE: _Known = {key: _DENSE[key] for key in ("module_input_name", "module_output_name")}


class _Unknown(Exception):
    """The folder is none that is read here."""


@dataclass(frozen=True)
class BertFolder:
    """A BERT-like transformer, its tokenizer, and what makes a vector of its states.

    Attributes:
        special: ids of tokens that are no text's own.
        tensors: by the transformer's own names.
        first: the position of a text's first token.
        pooling: `cls`, `mean` or `max`, over a prompt's tokens as well where `pools_prompt`.
        layers: what comes behind.
        width: of a vector.
        default_prompt: of texts that are given none.
    """

    tokenizer: Tokenizer
    special: frozenset[int]
    config: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]
    first: int
    pooling: str
    pools_prompt: bool
    layers: Sequence[Layer]
    width: int
    default_prompt: str

    def ids(self, texts: Sequence[str], prompt: str | None) -> tuple[list[torch.Tensor], int]:
        """Return the token ids of texts behind a prompt, and how many lead each for the prompt."""
        prompt = self.default_prompt if prompt is None else prompt
        encoded = self.tokenizer.encode_batch_fast([prompt + text for text in texts])
        leading = self.tokenizer.encode(prompt).ids if prompt else []
        length = len(leading) - (bool(leading) and leading[-1] in self.special)
        return [torch.tensor(each.ids) for each in encoded], length

    def pooled(self, states: torch.Tensor, lengths: list[int], prompt: int) -> torch.Tensor:
        """Return the vectors of texts whose states lie end to end; `prompt` tokens lead each."""
        skipped = 0 if self.pools_prompt else prompt
        parts = [part[skipped:] for part in states.split(lengths)]
        shape = len(parts), states.shape[1]
        if self.pooling == "cls":
            found = torch.stack([(part if len(part) else states[:1])[0] for part in parts])
        else:
            own = torch.cat(parts)
            number = torch.tensor([len(part) for part in parts])
            rows = torch.repeat_interleave(number)
            if self.pooling == "max":
                found = torch.full(shape, -torch.inf, dtype=states.dtype)
                found = found.scatter_reduce(0, rows[:, None].expand(-1, shape[1]), own, "amax")
            else:
                found = torch.zeros(shape).index_add(0, rows, own.float())
                found = (found / number[:, None].clamp(min=1e-9)).to(states.dtype)
        for layer in self.layers:
            found = layer(found)
        return found


@dataclass(frozen=True)
class StaticFolder:
    """Static word vectors: a text's vector is the mean of its tokens'."""

    tokenizer: Tokenizer
    vectors: torch.Tensor
    default_prompt: str

    @property
    def width(self) -> int:
        """Of a vector."""
        return self.vectors.shape[1]

    def encode(self, texts: Sequence[str], prompt: str | None = None) -> torch.Tensor:
        """Return the vectors of texts, of shape (texts, width)."""
        prompt = self.default_prompt if prompt is None else prompt
        behind = [prompt + text for text in texts]
        encoded = self.tokenizer.encode_batch_fast(behind, add_special_tokens=False)
        ids = [each.ids for each in encoded]
        starts = torch.tensor([0, *(len(own) for own in ids[:-1])]).cumsum(0)
        flat = torch.tensor(list(chain.from_iterable(ids)), dtype=torch.long)
        return functional.embedding_bag(flat, self.vectors, starts, mode="mean")


def read_model_folder(
    folder: Path, prompts: Mapping[str, str], max_tokens: int, dtype: torch.dtype
) -> BertFolder | StaticFolder | None:
    """Read an embedder's folder; None where it is of a kind that is not known here.

    Args:
        prompts: by name, before the folder's own.
        max_tokens: of a text, where the model would read more.
    """
    try:
        return _read(folder, prompts, max_tokens, dtype)
    except (_Unknown, OSError, LookupError, TypeError, ValueError, SafetensorError):
        return None


def _read(
    folder: Path, prompts: Mapping[str, str], max_tokens: int, dtype: torch.dtype
) -> BertFolder | StaticFolder:
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    kinds = [(each["type"].rpartition(".")[2], folder / each["path"]) for each in modules]
    if not all(each["type"].startswith("sentence_transformers.") for each in modules):
        raise _Unknown
    own = _said(folder / "config_sentence_transformers.json", _SENTENCE_TRANSFORMERS)
    named = {**own.get("prompts", {}), **prompts}
    default = named.get(own.get("default_prompt_name") or "", "")
    if [kind for kind, _ in kinds] == ["StaticEmbedding"]:
        at = kinds[0][1]
        vectors = load_file(at / "model.safetensors")["embedding.weight"].to(dtype)
        return StaticFolder(_tokenizer(at), vectors, default)
    return _bert(kinds, default, max_tokens, dtype)


def _bert(
    kinds: Sequence[tuple[str, Path]], default_prompt: str, max_tokens: int, dtype: torch.dtype
) -> BertFolder:
    (first, folder), (second, pooling), *behind = kinds
    config = json.loads((folder / "config.json").read_text("utf-8"))
    known = (
        (first, second) == ("Transformer", "Pooling")
        and config["model_type"] in ("bert", *_FROM_PADDING)
        and config["hidden_act"] == "gelu"
        and not config.get("is_decoder")
        and config.get("position_embedding_type", "absolute") == "absolute"
        and "auto_map" not in config
        and not (folder / "adapter_config.json").exists()
    )
    if not known:
        raise _Unknown
    pools = _said(pooling / "config.json", _POOLS)
    modes = [mode for name, mode in _POOLING.items() if pools.get(name)]
    (mode,) = [pools["pooling_mode"]] if "pooling_mode" in pools else modes
    layers, width = [], int(config["hidden_size"])
    for kind, at in behind:
        layer, width = _layer(kind, at, width, dtype)
        layers.append(layer)
    tokenizer, limit = _word_pieces(folder, config)
    tokenizer.enable_truncation(min(limit, max_tokens))
    added = tokenizer.get_added_tokens_decoder().items()
    tensors = load_file(folder / "model.safetensors")
    (prefix,) = (name.removesuffix(_WORDS) for name in tensors if name.endswith(_WORDS))
    layers_of = [f"encoder.layer.{number}." for number in range(config["num_hidden_layers"])]
    places = ["embeddings.LayerNorm", *(at + part for at in layers_of for part in _LAYER)]
    needed = {f"{prefix}{place}.{kind}" for place in places for kind in ("weight", "bias")}
    needed |= {
        f"{prefix}embeddings.{kind}_embeddings.weight" for kind in ("position", "token_type")
    }
    if not needed <= tensors.keys():  # old checkpoints have other names
        raise _Unknown
    return BertFolder(
        tokenizer,
        frozenset(number for number, token in added if token.special),
        config,
        {name.removeprefix(prefix): each.to(dtype) for name, each in tensors.items()},
        config.get("pad_token_id", 1) + 1 if config["model_type"] in _FROM_PADDING else 0,
        mode,
        pools.get("include_prompt", True),
        layers,
        width,
        default_prompt,
    )


def _layer(kind: str, folder: Path, width: int, dtype: torch.dtype) -> tuple[Layer, int]:
    """Return a module behind the pooling, and the width of what comes out."""
    if kind == "Normalize":
        _said(folder / "config.json", _NORMALIZE)
        return functional.normalize, width
    if kind != "Dense":
        raise _Unknown
    own = _said(folder / "config.json", _DENSE)
    tensors = load_file(folder / "model.safetensors")
    weight, bias = tensors["linear.weight"].to(dtype), tensors.get("linear.bias")
    bias = None if bias is None else bias.to(dtype)
    activate = _ACTIVATIONS[own["activation_function"]]
    return lambda vectors: activate(functional.linear(vectors, weight, bias)), len(weight)


def _word_pieces(folder: Path, config: Mapping[str, Any]) -> tuple[Tokenizer, int]:
    """Return the tokenizer of a transformer's folder, and how many tokens the model reads.

    transformers makes a BERT tokenizer anew from what `tokenizer_config.json` says; where
    `tokenizer.json` says otherwise, neither is believed here.
    """
    own = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    rules = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    told = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": own.get("tokenize_chinese_chars", True),
        "strip_accents": own.get("strip_accents"),
        "lowercase": own.get("do_lower_case", True),
    }
    name = own.get("tokenizer_class", "")
    believed = name in _AS_IT_IS or (name.startswith("BertTok") and rules["normalizer"] == told)
    if not believed or own.get("truncation_side", "right") != "right":
        raise _Unknown
    said = _said(folder / "sentence_bert_config.json", _SENTENCE_BERT)
    places = min(own.get("model_max_length", torch.inf), config["max_position_embeddings"])
    return _tokenizer(folder), int(said.get("max_seq_length") or places)


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library has no narrower one
        raise _Unknown from error
    tokenizer.no_padding()
    return tokenizer


def _said(file: Path, known: _Known) -> dict[str, Any]:
    """Return what a file says, {} where there is none; `_Unknown` where it says something else."""
    if not file.is_file():
        return {}
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    for key, value in found.items():
        allowed = known.get(key, ())
        if not (allowed is ... or value in allowed):
            raise _Unknown
    return found
