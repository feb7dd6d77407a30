"""Adapters over frozen query vectors: loading, checking their base, applying them.

The modules are LlamaIndex's own (LinearLayer, TwoLayerNN), so what is trained here is what
`AdapterEmbeddingModel` loads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.encoder import normalise_rows

if TYPE_CHECKING:
    from llama_index.embeddings.adapter.utils import BaseAdapter

CARD_FILE = "ragft_adapter.json"


def adapter_class(kind: str) -> type[BaseAdapter]:
    """Return LlamaIndex's adapter class: `linear` or `two_layer`."""
    from llama_index.embeddings.adapter.utils import LinearLayer, TwoLayerNN

    return {"linear": LinearLayer, "two_layer": TwoLayerNN}[kind]


def save_adapter(adapter: BaseAdapter, kind: str, base_digest: str, folder: Path) -> None:
    """Save an adapter: LlamaIndex's config.json and pytorch_model.bin, safetensors, our card."""
    from safetensors.torch import save_file

    adapter.save(str(folder))
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in adapter.state_dict().items()},
        folder / "adapter.safetensors",
    )
    card = {"kind": kind, "base_digest": base_digest, "side": "query"}
    (folder / CARD_FILE).write_text(json.dumps(card, indent=1), encoding="utf-8")


def load_adapter(folder: Path, base_digest: str) -> BaseAdapter:
    """Load an adapter from its safetensors.

    Raises RagftError where it was trained over another base model than `base_digest`.
    """
    from safetensors.torch import load_file

    try:
        card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RagftError(f"{folder} is no adapter folder: {error.filename} is missing") from None
    if card["base_digest"] != base_digest:
        raise RagftError(
            f"adapter {folder} belongs to the base model {card['base_digest'][:12]}…, "
            f"not to {base_digest[:12]}…: train it again over this base"
        )
    adapter = adapter_class(card["kind"])(**config)
    adapter.load_state_dict(load_file(folder / "adapter.safetensors"))
    return adapter.eval()


def apply_adapter(adapter: BaseAdapter, vectors: np.ndarray) -> np.ndarray:
    """Return adapted unit query vectors, float32 of the shape of `vectors`."""
    import torch

    if not len(vectors):
        return vectors
    with torch.inference_mode():
        return normalise_rows(adapter(torch.from_numpy(np.ascontiguousarray(vectors))).numpy())
