"""Adapters over frozen vectors: maps of query vectors, or of both sides.

The modules are LlamaIndex's own (LinearLayer, TwoLayerNN), so the query side of a folder is what
`AdapterEmbeddingModel` loads. A map of the document side turns stored vectors into better ones
with a matrix product: nothing is encoded again.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.encoder import normalise_rows

if TYPE_CHECKING:
    import torch
    from llama_index.embeddings.adapter.utils import BaseAdapter

CARD_FILE = "ragft_adapter.json"
DOCUMENT_FOLDER = "documents"
_WEIGHTS = "adapter.safetensors"
_AT_ONCE = 65_536  # vectors


@dataclass(frozen=True)
class Adapter:
    """Maps of query vectors and, where there is one, of document vectors.

    Attributes:
        base_digest: digest of the base model whose vectors it maps.
        query, document: LlamaIndex's modules; `document` is None for a query-side adapter.
    """

    base_digest: str
    query: BaseAdapter
    document: BaseAdapter | None = None

    def queries(self, vectors: np.ndarray) -> np.ndarray:
        """Return unit query vectors, float32 of the shape of `vectors`."""
        return _mapped(self.query, vectors)

    def documents(self, vectors: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return unit document vectors; those given, for a query-side adapter.

        Args:
            out: where to put them, by default a new array.
        """
        return vectors if self.document is None else _mapped(self.document, vectors, out)

    def doubled(self) -> Adapter:
        """Return the same computing in float64: a vector is the same whatever others are mapped."""
        query, document = (
            None if side is None else copy.deepcopy(side).double()
            for side in (self.query, self.document)
        )
        return Adapter(self.base_digest, query, document)

    def shrunk(self, strength: float) -> Adapter:
        """Return it drawn towards the identity, on the CPU: 1 is as it was, 0 the identity."""
        document = None if self.document is None else _shrunk(self.document, strength)
        return Adapter(self.base_digest, _shrunk(self.query, strength), document)

    def save(self, folder: Path) -> None:
        """Save as LlamaIndex does (config.json, pytorch_model.bin) and as safetensors.

        The document side has the same files in the folder `documents`.
        """
        sides = [(self.query, folder)]
        if self.document is not None:
            sides.append((self.document, folder / DOCUMENT_FOLDER))
        for module, place in sides:
            _save(module, place)
        card = {"base_digest": self.base_digest, "side": "query" if len(sides) == 1 else "both"}
        (folder / CARD_FILE).write_text(json.dumps(card, indent=1), encoding="utf-8")


def load_adapter(folder: Path | str, base_digest: str) -> Adapter:
    """Load an adapter from its safetensors.

    Raises RagftError where it was trained over another base model than `base_digest`.
    """
    folder = Path(folder)
    try:
        card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        query = _load(folder)
        document = _load(folder / DOCUMENT_FOLDER) if card["side"] == "both" else None
    except FileNotFoundError as error:
        raise RagftError(f"{folder} is no adapter folder: {error.filename} is missing") from None
    if card["base_digest"] != base_digest:
        raise RagftError(
            f"adapter {folder} belongs to the base model {card['base_digest'][:12]}…, "
            f"not to {base_digest[:12]}…: train it again over this base"
        )
    return Adapter(base_digest, query, document)


def linear_adapter(weight: torch.Tensor) -> BaseAdapter:
    """Return LlamaIndex's linear adapter with a weight of shape (out, in)."""
    from llama_index.embeddings.adapter.utils import LinearLayer

    module = LinearLayer(weight.shape[1], weight.shape[0])
    module.load_state_dict({"linear.weight": weight.detach().clone()})
    return module.eval()


def two_layer_adapter(width: int, hidden: int) -> BaseAdapter:
    """Return LlamaIndex's TwoLayerNN with a residual of weight 0: the identity."""
    from llama_index.embeddings.adapter.utils import TwoLayerNN

    return TwoLayerNN(width, hidden, width, add_residual=True)


def _save(module: BaseAdapter, folder: Path) -> None:
    from safetensors.torch import save_file

    module.save(str(folder))
    state = module.state_dict().items()
    save_file({name: tensor.cpu().contiguous() for name, tensor in state}, folder / _WEIGHTS)


def _load(folder: Path) -> BaseAdapter:
    from llama_index.embeddings.adapter.utils import LinearLayer, TwoLayerNN
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    module = (TwoLayerNN if "hidden_features" in config else LinearLayer)(**config)
    module.load_state_dict(load_file(folder / _WEIGHTS))
    loaded: BaseAdapter = module.eval()
    return loaded


def _shrunk(module: BaseAdapter, strength: float) -> BaseAdapter:
    import torch

    state = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
    if "residual_weight" in state:
        state["residual_weight"] *= strength
    else:
        weight = state["linear.weight"]
        state["linear.weight"] = torch.lerp(torch.eye(*weight.shape), weight, strength)
    copy: BaseAdapter = type(module)(**module.get_config_dict())
    copy.load_state_dict(state)
    return copy.eval()


def _mapped(module: BaseAdapter, vectors: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    import torch

    found = np.empty(vectors.shape, np.float32) if out is None else out
    dtype = next(module.parameters()).dtype
    with torch.inference_mode():
        for start in range(0, len(vectors), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            block = torch.from_numpy(np.ascontiguousarray(vectors[part])).to(dtype)
            found[part] = normalise_rows(module(block).numpy())
    return found
