"""SmolLM2 with its first layers alone: a real language model that answers nonsense, and soon."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from ragft_pipeline.models.language_model import load_model, load_tokenizer, model_folder
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.settings import ComputeSettings
from ragft_pipeline.store.files import publish_folder

NAME = "embedded:smollm2-135m-instruct"
LAYERS = 2


@lru_cache
def short_language_model() -> Path:
    """Return its folder, made once a machine beside the whole model's."""
    cache = user_cache_path("ragft_pipeline", ensure_exists=True)
    with FileLock(cache / "short-model.lock"):  # or each worker would unpack the whole one
        whole = model_folder(resolve_weights(NAME))
        folder = cache / f"{whole.name}-{LAYERS}-layers"
        if not folder.is_dir():
            _shorten(folder)
    return folder


def _shorten(folder: Path) -> None:
    weights = resolve_weights(NAME)
    model = load_model(weights, ComputeSettings(device="cpu", dtype="bfloat16"))
    model.model.layers = model.model.layers[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        staged = Path(temporary) / folder.name
        model.save_pretrained(staged)
        load_tokenizer(weights).save_pretrained(staged)
        publish_folder(staged, folder)
