"""Points as Qdrant holds them: dense vectors, words as sparse ones, tokens as multivectors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from ragft_pipeline.publishing.extras import question_terms, term_id
from ragft_pipeline.publishing.manifest import TOKENS, WORDS, Manifest
from ragft_pipeline.publishing.points import Point
from ragft_pipeline.publishing.rows import node_payload
from ragft_pipeline.publishing.target import Found

DENSE_NAME = "text-dense"  # as LlamaIndex's QdrantVectorStore calls it
DIGEST = "ragft_digest"


def vectors_config(manifest: Manifest) -> dict[str, Any]:
    """Return what a collection's points hold, as `create_collection` takes it."""
    from qdrant_client import models

    distance = models.Distance
    dense = {DENSE_NAME: models.VectorParams(size=manifest.width, distance=distance.COSINE)}
    if TOKENS in manifest.parts:
        dense[TOKENS] = models.VectorParams(
            size=manifest.token_width,
            distance=distance.DOT,
            multivector_config=models.MultiVectorConfig(
                comparator=models.MultiVectorComparator.MAX_SIM
            ),
            hnsw_config=models.HnswConfigDiff(m=0),  # it orders candidates, it finds none
        )
    sparse = {WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)}
    return {
        "vectors_config": dense,
        "sparse_vectors_config": sparse if WORDS in manifest.parts else None,
    }


def vectors_of(point: Point) -> dict[str, Any]:
    """Return a point's vectors by their names."""
    from qdrant_client.models import SparseVector

    found: dict[str, Any] = {DENSE_NAME: floats(point.vector)}
    if point.words is not None:
        ids, values = point.words
        found[WORDS] = SparseVector(indices=ids, values=values)
    if point.tokens is not None:
        found[TOKENS] = point.tokens.tolist()
    return found


def payload_of(point: Point) -> dict[str, Any]:
    """Return what lies beside a point's vectors."""
    return {**node_payload(point), DIGEST: point.digest}


def words_asked(manifest: Manifest, question: str) -> Any:
    """Return a question's terms as a sparse vector; None without any.

    Raises RagftError where the generation holds no words.
    """
    from qdrant_client.models import SparseVector

    counts = question_terms(question, manifest)
    if not counts:
        return None
    values: dict[int, float] = {}
    for term, count in counts.items():
        values[term_id(term)] = values.get(term_id(term), 0.0) + count
    ids = sorted(values)
    return SparseVector(indices=ids, values=[values[at] for at in ids])


def fusion(weight: float, low: float, high: float, most: float) -> Any:
    """Return the sum of a dense and a lexical score, prefetched in this order, each in 0..1.

    Args:
        weight: of the dense score.
        low, high: the least and the greatest dense score of all points.
        most: the greatest lexical one; the least is 0.
    """
    from qdrant_client import models

    dense = weight / max(high - low, 1e-9)
    lexical = (1 - weight) / most if most > 0 else 0.0
    parts: list[Any] = [
        models.MultExpression(mult=[dense, models.SumExpression(sum=["$score[0]", -low])]),
        models.MultExpression(mult=[lexical, "$score[1]"]),
    ]
    defaults = {"$score[0]": low, "$score[1]": 0.0}
    return models.FormulaQuery(formula=models.SumExpression(sum=parts), defaults=defaults)


def found_in(answer: Any) -> list[Found]:
    """Return the points of an answer."""
    return [
        Found(str(one.id), float(one.score), _text_of(one.payload), dict(one.payload or {}))
        for one in answer.points
    ]


def floats(values: Iterable[np.floating[Any]]) -> list[float]:
    """Return a vector as JSON has it."""
    return [float(value) for value in values]


def _text_of(payload: Any) -> str:
    try:
        return str(json.loads((payload or {})["_node_content"])["text"])
    except (KeyError, ValueError):
        return ""
