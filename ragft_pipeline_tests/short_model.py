"""SmolLM2 with its first layers alone: a real language model that answers nonsense, and soon."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from platformdirs import user_cache_path

from ragft_pipeline.language_model import load_model, load_tokenizer, model_folder
from ragft_pipeline.settings import ComputeSettings
from ragft_pipeline.store.files import publish_folder
from ragft_pipeline.weights import resolve_weights

LAYERS = 2


@lru_cache
def short_language_model() -> Path:
    """Return its folder, made once a machine beside the whole model's."""
    weights = resolve_weights("embedded:smollm2-135m-instruct")
    whole = model_folder(weights)
    folder = user_cache_path("ragft_pipeline") / f"{whole.name}-{LAYERS}-layers"
    if not folder.is_dir():
        model = load_model(weights, ComputeSettings(device="cpu", dtype="bfloat16"))
        model.model.layers = model.model.layers[:LAYERS]
        model.config.num_hidden_layers = LAYERS
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            staged = Path(temporary) / folder.name
            model.save_pretrained(staged)
            load_tokenizer(weights).save_pretrained(staged)
            publish_folder(staged, folder)
    return folder
