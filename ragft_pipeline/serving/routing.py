"""The router of a bundle, over the bundle's documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.mapped_vectors import MappedVectors
from ragft_pipeline.retrieval.text_vectors import vectors_matrix
from ragft_pipeline.serving.bundle import read
from ragft_pipeline.serving.index import BundleIndex
from ragft_pipeline.serving.router_files import ROUTING_FOLDER, TOOL_VECTORS_FILE, TOOLS_FILE
from ragft_pipeline.settings import Settings

if TYPE_CHECKING:
    from ragft_pipeline.routing.tool_router import ToolRouter


def load_tool_router(
    index: BundleIndex, encoder: Encoder, vectors: MappedVectors, settings: Settings
) -> ToolRouter:
    """Load a bundle's router and index its documents as tools.

    Args:
        encoder: the bundle's base embedder.
        vectors: that embedder's, of the nodes as they are read.

    Raises RagftError for a bundle without a router, or one of another base model.
    """
    import pyarrow.parquet as pq

    from ragft_pipeline.retrieval.late_interaction import LateInteraction
    from ragft_pipeline.retrieval.reranking import PairScorer, Reranker
    from ragft_pipeline.routing.catalog import describing, tool_documents
    from ragft_pipeline.routing.choosing import LATE_INTERACTION, RERANKER
    from ragft_pipeline.routing.router import Router
    from ragft_pipeline.routing.tool_index import ToolIndex
    from ragft_pipeline.routing.tool_router import ToolRouter

    bundle = index.bundle
    if bundle.router is None:
        raise RagftError(f"bundle {bundle.digest[:12]} has no router")
    folder = bundle.folder / ROUTING_FOLDER
    router = Router.load(bundle.router, encoder.weights.digest)
    documents = tool_documents(read(index.nodes, settings))
    descriptions = describing(pq.read_table(folder / TOOLS_FILE))
    tools = pq.read_table(folder / TOOL_VECTORS_FILE)
    described = dict(zip(tools.column("text_id").to_pylist(), vectors_matrix(tools)))
    tool_index = ToolIndex.assembled(
        documents,
        {one.doc_key: descriptions[one.doc_key] for one in documents},
        np.stack([described[one.doc_key] for one in documents]),
        index.node_ids,
        vectors,
        router.choice.vectors_per_tool,
    )
    name = router.second_opinion
    scorer: PairScorer | None = None
    if name == RERANKER:
        scorer = Reranker(folder / name, settings.reranker, settings.compute)
    elif name == LATE_INTERACTION:
        scorer = LateInteraction.load(
            folder / name, settings.embedder, settings.compute, index.tokens()
        )
    return ToolRouter(router, tool_index, encoder.encode, scorer)
