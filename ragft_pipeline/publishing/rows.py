"""Points as the nodes that LlamaIndex's own vector stores write and read."""

from __future__ import annotations

from typing import Any

from ragft_pipeline.publishing.points import Point


def node_payload(point: Point) -> dict[str, Any]:
    """Return what LlamaIndex keeps of a node beside its vector: metadata, and the node as JSON."""
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
    from llama_index.core.vector_stores.utils import node_to_metadata_dict

    node = TextNode(id_=point.node_id, text=point.text, metadata=point.metadata)
    node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=point.doc_key)
    found: dict[str, Any] = node_to_metadata_dict(node, remove_text=False, flat_metadata=False)
    return found
