"""The embedded models with their first layers and tokens alone: real, poorer and soon computed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_path

from ragft_pipeline.models.language_model import load_model, load_tokenizer
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.settings import ComputeSettings, EmbedderSettings, Settings
from ragft_pipeline.store.files import publish_folder
from ragft_pipeline.tuning.layers import keep_layers

NAME = "embedded:smollm2-135m-instruct"
EMBEDDER = "embedded:all-minilm-l6-v2"
LAYERS = 2
TOKENS = 6000  # both vocabularies begin with letters, parts of words and frequent words


@lru_cache
def short_language_model() -> Path:
    """Return the folder of a language model that answers nonsense."""
    return _made(NAME, _shorten_language_model)


@lru_cache
def short_embedder() -> Path:
    """Return the folder of an embedder whose vectors are as wide as the whole one's."""
    return _made(EMBEDDER, _shorten_embedder)


def short_settings(**sections: Any) -> Settings:
    """Return settings with the short embedder."""
    return Settings(embedder=EmbedderSettings(model=str(short_embedder())), **sections)


def _made(name: str, shorten: Callable[[str, Path], None]) -> Path:
    """Return a short model's folder, made once a machine."""
    cache = user_cache_path("ragft_pipeline", ensure_exists=True)
    digest = resolve_weights(name).digest[:16]
    folder = cache / f"{name.partition(':')[2]}-{digest}-{LAYERS}-{TOKENS}"
    with FileLock(cache / "short-model.lock"):  # or each worker would unpack the whole one
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as temporary:
                staged = Path(temporary) / folder.name
                shorten(name, staged)
                publish_folder(staged, folder)
    return folder


def _shorten_language_model(name: str, folder: Path) -> None:
    weights = resolve_weights(name)
    model = load_model(weights, ComputeSettings(device="cpu", dtype="bfloat16"))
    keep_layers(model, LAYERS)
    model.resize_token_embeddings(TOKENS)
    model.save_pretrained(folder)
    load_tokenizer(weights).save_pretrained(folder)
    _shorten_vocabulary(folder / "tokenizer.json")


def _shorten_embedder(name: str, folder: Path) -> None:
    model = Encoder.base(EmbedderSettings(model=name), ComputeSettings(device="cpu")).model
    backbone: Any = model.transformers_model
    keep_layers(backbone, LAYERS)
    backbone.resize_token_embeddings(TOKENS)
    model.save_pretrained(str(folder), create_model_card=False)
    _shorten_vocabulary(folder / "tokenizer.json")


def _shorten_vocabulary(file: Path) -> None:
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    parts = tokenizer["model"]
    vocabulary = {token: place for token, place in parts["vocab"].items() if place < TOKENS}
    parts["vocab"] = vocabulary
    if "merges" in parts:
        parts["merges"] = [pair for pair in parts["merges"] if "".join(pair) in vocabulary]
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
