"""A bundle as points: what a store is to hold of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ragft_pipeline.digests import digest_of
from ragft_pipeline.publishing.extras import Extras
from ragft_pipeline.publishing.manifest import DENSE, Manifest, Probe
from ragft_pipeline.publishing.points import Passage, Point

POINTS_VERSION = 2  # raise it when some point would be written otherwise
_HALF = 16  # hexadecimal digits of a digest


@dataclass(frozen=True)
class About:
    """What is published, for the manifest: see its attributes there."""

    bundle: str
    version: str
    system: str
    embedder: str
    base_model: str = ""
    prompts: dict[str, str] = field(default_factory=dict)
    max_tokens: int = 0
    adapter: bool = False
    dense_weight: float | None = None


def same_but_payload(one: str | None, other: str) -> bool:
    """Say whether of two points' digests the payload alone may differ."""
    return one is not None and one[:_HALF] == other[:_HALF]


class Content:
    """The points of a bundle, in the order of their nodes' ids.

    Args:
        passages: the nodes, ordered by id; what documents say of themselves is as `fields` has it.
        vectors: float32 (passages, width), the bundle's.
        extras: what else a store may hold; None for dense vectors alone.
        fields: see Manifest.
    """

    def __init__(
        self,
        about: About,
        passages: Sequence[Passage],
        vectors: np.ndarray,
        extras: Extras | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        self.about = about
        self.passages = passages
        self.vectors = vectors
        self.extras = extras
        self.fields = dict(fields or {})

    def __len__(self) -> int:
        return len(self.passages)

    @cached_property
    def family(self) -> str:
        """See Manifest.family."""
        held = self.extras.identity if self.extras else ""
        width = self.vectors.shape[1]
        return digest_of(POINTS_VERSION, self.about.embedder, width, held)

    @cached_property
    def ids(self) -> list[str]:
        """Each passage's point id."""
        return [
            str(uuid.UUID(digest_of(passage.node_id, self.family)[:32], version=5))
            for passage in self.passages
        ]

    @cached_property
    def digests(self) -> dict[str, str]:
        """The digest of each point, by its id: see Point."""
        return {
            id_: digest_of(self.family, p.node_id, p.text, p.read)[:_HALF]
            + digest_of(p.doc_key, p.metadata)[:_HALF]
            for id_, p in zip(self.ids, self.passages)
        }

    @cached_property
    def digest(self) -> str:
        """One digest of all points."""
        return digest_of(self.family, sorted(self.digests.items()))

    @cached_property
    def place(self) -> dict[str, int]:
        """The passage's number, by its point's id."""
        return {id_: number for number, id_ in enumerate(self.ids)}

    def points(self, ids: Sequence[str]) -> Iterator[Point]:
        """Yield the points of some ids."""
        for id_ in ids:
            number = self.place[id_]
            passage = self.passages[number]
            point = Point(
                id_, self.digests[id_], passage.node_id, passage.doc_key, passage.text,
                passage.metadata, self.vectors[number],
            )  # fmt: skip
            yield self.extras.added(point, passage) if self.extras else point

    def nearest(self, asked: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the exact best passages of questions and their scores, each (questions, top)."""
        scores = asked @ self.vectors.T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        return best, np.take_along_axis(scores, best, axis=1)

    def manifest(self, number: int, probes: Sequence[Probe] = ()) -> Manifest:
        """Return the manifest of this content as a generation; its place is the store's matter."""
        extras, about = self.extras, self.about
        return Manifest(
            number=number, bundle=about.bundle, version=about.version, system=about.system,
            content=self.digest, family=self.family, embedder=about.embedder,
            width=int(self.vectors.shape[1]), parts=(DENSE, *(extras.parts if extras else ())),
            points=len(self), base_model=about.base_model, prompts=about.prompts,
            max_tokens=about.max_tokens, adapter=about.adapter, probes=tuple(probes),
            token_width=extras.tokens.width if extras and extras.tokens else 0,
            mean_length=extras.mean_length if extras else 0.0,
            languages=extras.languages if extras else (), dense_weight=about.dense_weight,
            fields=self.fields,
        )  # fmt: skip
