"""A linear adapter baked into a plain sentence-transformers model, so that it loads anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.weights import Weights, require_embedder, resolve_weights
from ragft_pipeline.retrieval.adapters import Adapter, linear_adapter
from ragft_pipeline.retrieval.encoder import KINDS, load_sentence_transformer, prompt_of
from ragft_pipeline.settings import EmbedderSettings

if TYPE_CHECKING:
    import torch

QUERY_ADAPTER_FOLDER = "query_adapter"


def bake_adapter(
    adapter: Adapter, embedder: EmbedderSettings, folder: Path, base: Weights | None = None
) -> None:
    """Write base model and adapter as one sentence-transformers model.

    `encode_query` and `encode_document` take the two sides; `encode` is the document side. The
    folder `query_adapter` is for LlamaIndex, which knows only `encode`: a linear adapter that
    turns the document side's vector of a question into the query side's
    (`AdapterEmbeddingModel(HuggingFaceEmbedding(folder), folder / "query_adapter")`).

    Args:
        base: the model below the adapter, by default the embedder's.

    Raises RagftError for an adapter that is not linear.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sentence_transformer.modules import Normalize

    base = base or require_embedder(resolve_weights(embedder.model))
    if base.digest != adapter.base_digest:
        raise RagftError(f"the adapter does not belong to {embedder.model!r}: train it again")
    query = _weight(adapter.query)
    document = torch.eye(*query.shape) if adapter.document is None else _weight(adapter.document)
    model = load_sentence_transformer(base, embedder, "cpu", torch.float32)
    routes = {"query": [_dense(query)], "document": [_dense(document)]}
    baked = SentenceTransformer(
        modules=[*model, Router(routes, default_route="document"), Normalize()],
        device="cpu",
        prompts={kind: prompt_of(base, embedder, kind) for kind in KINDS},
    )
    baked.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
    between = torch.linalg.solve(document.T, query.T).T  # query = between @ document
    Adapter("", linear_adapter(between)).save(folder / QUERY_ADAPTER_FOLDER)


def _weight(module: Any) -> torch.Tensor:
    linear = getattr(module, "linear", None)
    if linear is None:
        raise RagftError("only a linear adapter can be baked: set adapter.kind to linear")
    weight: torch.Tensor = linear.weight.detach()
    return weight


def _dense(weight: torch.Tensor) -> Any:
    import torch
    from sentence_transformers.base.modules import Dense

    return Dense(
        weight.shape[1], weight.shape[0], bias=False, activation_function=torch.nn.Identity(),
        init_weight=weight.clone(),
    )  # fmt: skip
