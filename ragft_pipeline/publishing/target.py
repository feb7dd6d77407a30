"""What a store must be able to do; the rest of publishing is the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ragft_pipeline.errors import RagftError
from ragft_pipeline.publishing.manifest import Manifest, State
from ragft_pipeline.publishing.points import Point

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilters

_DENSE_ALONE = "this store holds dense vectors alone: no search by words, and none by both"


@dataclass(frozen=True)
class Origin:
    """What a new generation starts from.

    Attributes:
        manifest: the generation whose points are there already; None for an empty one.
        copied: whether its points have to be written beside it once more.
    """

    manifest: Manifest | None = None
    copied: bool = False


@dataclass(frozen=True)
class Found:
    """A point that answers: its score (higher is better) and what stands in the store."""

    id: str
    score: float
    text: str
    metadata: dict[str, Any]


class Target(Protocol):
    """A collection in a store, with its generations. A store without words searches by vectors."""

    collection: str
    holds: tuple[str, ...]  # the parts that it can hold

    def writer(self) -> AbstractContextManager[None]:
        """Be the only writer; RagftError where another process is."""

    def state(self) -> State:
        """Return what there is; the pointer is read anew."""

    def origin(self, manifest: Manifest, state: State) -> Origin:
        """Say what a generation would start from."""

    def begin(self, manifest: Manifest, state: State) -> Manifest:
        """Make room for a generation, or find what was begun; return it with its place."""

    def stored(self, manifest: Manifest) -> dict[str, str]:
        """Return the digests of a generation's points, by their ids."""

    def write(self, manifest: Manifest, points: Sequence[Point]) -> None:
        """Write points of a generation that is not live, over older ones of the same ids."""

    def update(self, manifest: Manifest, points: Sequence[Point]) -> None:
        """Write all of points but their vectors and terms, which stand there already."""

    def delete(self, manifest: Manifest, ids: Sequence[str]) -> None:
        """Remove points of a generation that is not live."""

    def finish(self, manifest: Manifest) -> Manifest:
        """Say that a generation is whole; what is searched from here on is this."""

    def switch(self, to: Manifest, previous: Manifest | None) -> None:
        """Make a whole generation the live one, in one step."""

    def prune(self) -> int:
        """Remove what is neither live nor previous nor begun; return how many points."""

    def search(
        self,
        manifest: Manifest,
        vector: np.ndarray,
        top: int,
        filters: MetadataFilters | None = None,
    ) -> list[Found]:
        """Return a generation's nearest points by inner product, best first."""

    def search_words(
        self, manifest: Manifest, question: str, top: int, filters: MetadataFilters | None = None
    ) -> list[Found]:
        """Search by BM25 over our terms; RagftError where the store does not hold them."""
        raise RagftError(_DENSE_ALONE)

    def search_hybrid(
        self,
        manifest: Manifest,
        question: str,
        vector: np.ndarray,
        top: int,
        filters: MetadataFilters | None = None,
        tokens: np.ndarray | None = None,
        depth: int = 100,
    ) -> list[Found]:
        """Search by the bundle's fusion of both scores, each scaled to 0..1 over all points.

        Args:
            tokens: a question's token vectors times their shares, float (tokens, width): the best
                `depth` are ordered anew by late interaction, where the store holds tokens.

        Raises RagftError where the store holds no words.
        """
        raise RagftError(_DENSE_ALONE)

    def close(self) -> None:
        """Give back connections."""
