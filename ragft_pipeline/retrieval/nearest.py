"""The nearest of many vectors: all compared while they are few, an inverted file beyond that."""

from __future__ import annotations

from typing import Any

import numpy as np

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.search import top_k

EXACT_UP_TO = 200_000
_TRAINED_ON = 131_072
_PROBES = 48
_BLOCK = 65_536
_SEED = 13


class NearestVectors:
    """Finds the vectors with the largest inner products.

    Above `exact_up_to` vectors it searches faiss's inverted file with 8-bit vectors (Jégou et al.
    2011), which needs the extra `large`: a fiftieth of the vectors is compared.

    Args:
        vectors: float32 or float16 (vectors, width); unit vectors.

    Raises RagftError where faiss is needed and missing.
    """

    def __init__(self, vectors: np.ndarray, exact_up_to: int = EXACT_UP_TO) -> None:
        self._vectors = vectors
        self._index: Any = _inverted_file(vectors) if len(vectors) > exact_up_to else None

    @property
    def exact(self) -> bool:
        """Whether every vector is compared."""
        return self._index is None

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return the places of the `k` nearest of each query, best first; -1 where there are fewer.

        Args:
            queries: float32 (queries, width).
        """
        if self._index is None:
            return top_k(queries @ self._vectors.T, k)
        _, places = self._index.search(np.ascontiguousarray(queries, np.float32), k)
        return np.asarray(places)


def _inverted_file(vectors: np.ndarray) -> Any:
    try:
        import faiss
    except ImportError:
        raise RagftError(
            f"{len(vectors)} vectors need the extra `large` (faiss): "
            "pip install 'ragft_pipeline[large]'"
        ) from None
    width = vectors.shape[1]
    lists = int(4 * np.sqrt(len(vectors)))
    inner = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, lists, faiss.ScalarQuantizer.QT_8bit, inner
    )
    random = np.random.default_rng(_SEED)
    index.cp.seed = _SEED
    index.train(vectors[random.permutation(len(vectors))[:_TRAINED_ON]].astype(np.float32))
    for start in range(0, len(vectors), _BLOCK):
        index.add(vectors[start : start + _BLOCK].astype(np.float32))
    index.nprobe = _PROBES
    return index
