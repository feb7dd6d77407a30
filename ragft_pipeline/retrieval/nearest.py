"""The nearest of many vectors: all compared while they are few, an inverted file beyond that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.search import rows_at_once, top_k

EXACT_UP_TO = 200_000
_TRAINED_ON = 81_920  # faiss wants 39 for each list
_PROBES = 48
_MAPPED = 16_384  # vectors mapped at once: copies of them are what memory peaks by
_SEED = 13


class NearestVectors:
    """Finds the vectors with the largest inner products.

    Above `exact_up_to` vectors it keeps 8 bits a number in faiss's inverted file (Jégou et al.
    2011), which needs the extra `large`, and compares a question with a fiftieth of them.

    Args:
        vectors: float32 or float16 (vectors, width). Large ones are read block by block, not kept.
        mapped: makes of each block what questions are compared with: unit vectors, float32.

    Raises RagftError where faiss is needed and missing.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        mapped: Callable[[np.ndarray], np.ndarray] = lambda block: block,
        exact_up_to: int = EXACT_UP_TO,
    ) -> None:
        self._index: Any = None
        self._vectors = vectors[:0]
        if len(vectors) > exact_up_to:
            self._index = _inverted_file(vectors, mapped)
        else:
            self._vectors = mapped(vectors.astype(np.float32, copy=False))

    @property
    def exact(self) -> bool:
        """Whether every vector is compared."""
        return self._index is None

    @property
    def vectors(self) -> np.ndarray:
        """All vectors as they are compared, float32; none of a large set."""
        return self._vectors

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return some vectors as they are compared, float32 (places, width)."""
        if self._index is None:
            return np.asarray(self._vectors[places])
        return np.asarray(self._index.reconstruct_batch(np.ascontiguousarray(places, np.int64)))

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return the places of the `k` nearest of each query, best first; -1 where there are fewer.

        Args:
            queries: float32 (queries, width).
        """
        if self._index is None:
            return top_k(queries @ self._vectors.T, k)
        _, places = self._index.search(np.ascontiguousarray(queries, np.float32), k)
        return np.asarray(places)

    def probe_for(self, queries: np.ndarray, wanted: np.ndarray, share: float, depth: int) -> float:
        """Probe twice as many lists until `share` of what is wanted is found; return the recall.

        Args:
            queries: float32 (queries, width), a sample.
            wanted: the nearest places of each, as `exact_nearest` finds them.
            depth: how many places are found for each.
        """
        while True:
            found = recall(self.search(queries, depth), wanted)
            if self._index is None or found >= share or self._index.nprobe >= self._index.nlist:
                return found
            self._index.nprobe = min(2 * self._index.nprobe, self._index.nlist)

    def __str__(self) -> str:
        if self._index is None:
            return "exact"
        return f"faiss IVF{self._index.nlist}, 8 bits a number, {self._index.nprobe} lists probed"


def exact_nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Return the places of the `k` nearest of each query, every vector compared, best first."""
    block = rows_at_once(len(vectors), len(queries))
    parts = [
        top_k(queries[start : start + block] @ vectors.T, k)
        for start in range(0, len(queries), block)
    ]
    return np.concatenate([np.zeros((0, min(k, len(vectors))), np.int64), *parts])


def recall(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the mean share of each row's wanted places that were found."""
    hits = [np.isin(row, near).mean() for near, row in zip(found, wanted)]
    return float(np.mean(hits)) if hits else 1.0


def _inverted_file(vectors: np.ndarray, mapped: Callable[[np.ndarray], np.ndarray]) -> Any:
    try:
        import faiss
    except ImportError:
        raise RagftError(
            f"{len(vectors)} vectors need the extra `large` (faiss): "
            "pip install 'ragft_pipeline[large]'"
        ) from None
    width = vectors.shape[1]
    lists = int(2 * np.sqrt(len(vectors)))
    inner = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, lists, faiss.ScalarQuantizer.QT_8bit, inner
    )
    random = np.random.default_rng(_SEED)
    index.cp.seed = _SEED
    sample = np.sort(random.permutation(len(vectors))[:_TRAINED_ON])
    blocks = (sample[start : start + _MAPPED] for start in range(0, len(sample), _MAPPED))
    index.train(np.concatenate([mapped(vectors[rows].astype(np.float32)) for rows in blocks]))
    for start in range(0, len(vectors), _MAPPED):
        index.add(mapped(vectors[start : start + _MAPPED].astype(np.float32)))
    index.nprobe = _PROBES
    index.make_direct_map()
    return index
