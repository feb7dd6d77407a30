"""What a generation is: the bundle whose passages stand in a store, and who may search them.

The manifest lies in the store, beside what it describes: whoever reads the collection learns from
it which embedder asks the questions, and refuses to ask with another.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ragft_pipeline.errors import RagftError

FORMAT = 1
DENSE, WORDS, TOKENS = "dense", "words", "tokens"
_ALIKE = 0.999  # cosine of a probe's vectors by the right embedder, at least


@dataclass(frozen=True)
class Probe:
    """A text and its query vector: another embedder gives it another one."""

    text: str
    vector: list[float]


@dataclass(frozen=True)
class Manifest:
    """A generation of a collection.

    Attributes:
        number: its place in the collection's history, from 1.
        bundle, version, system: what it holds: the bundle, its corpus version, the system's name.
        content: digest of all its points.
        family: digest of what every point's vectors and terms come from; within one family the
            points of a node are the same, so only a difference is ever written.
        embedder: digest of the encoder of questions and passages, adapter and prompts among it.
        width: numbers of a vector.
        parts: `dense`, and `words` and `tokens` where the store holds them.
        points: how many there are.
        base_model, prompts, max_tokens, adapter: for people, and for who embeds elsewhere; the
            prompts are of questions and of passages.
        probes: texts by which a reader's embedder is recognised.
        token_width: numbers of a token's vector; 0 without tokens.
        mean_length: terms of a passage on average, as the words' weights count them; 0 without.
        languages: of the passages, whose forms a question's words take.
        dense_weight: the system's weight of the dense score beside BM25's; None without BM25.
        place: where it stands in the store: a collection, or a table and its version.
        points_per_second: how fast it was written; 0 where nothing was.
        fields: what documents say about themselves, by key its type (retrieval.metadata_fields).
    """

    number: int
    bundle: str
    version: str
    system: str
    content: str
    family: str
    embedder: str
    width: int
    parts: tuple[str, ...]
    points: int
    base_model: str = ""
    prompts: dict[str, str] = field(default_factory=dict)
    max_tokens: int = 0
    adapter: bool = False
    probes: tuple[Probe, ...] = ()
    token_width: int = 0
    mean_length: float = 0.0
    languages: tuple[str, ...] = ()
    dense_weight: float | None = None
    place: str = ""
    points_per_second: float = 0.0
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"generation {self.number} (bundle {self.bundle[:12]})"

    def at(self, place: str) -> Manifest:
        """Return the manifest with its place in the store."""
        return replace(self, place=place)

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `parse` reads."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def parse(cls, data: Any, origin: str) -> Manifest:
        """Read a manifest; RagftError for one that is damaged, or of another format."""
        try:
            raw = dict(json.loads(data) if isinstance(data, str | bytes) else data)
            if raw.pop("format") != FORMAT:
                raise RagftError(f"{origin}: another version of ragft published it")
            raw["parts"], raw["languages"] = tuple(raw["parts"]), tuple(raw["languages"])
            raw["probes"] = tuple(Probe(**probe) for probe in raw["probes"])
            return cls(**raw)
        except (ValueError, TypeError, KeyError):
            raise RagftError(f"{origin}: its manifest is damaged") from None

    def require_embedder(self, vectors: np.ndarray, name: str) -> None:
        """Raise RagftError unless `vectors` are the probes' of this generation's embedder.

        Args:
            vectors: the probes by the reader's embedder, float (probes, width).
            name: the reader's embedder, for people.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.width:
            found = vectors.shape[-1] if vectors.size else 0
            raise RagftError(
                f"{self.name} holds vectors of {self.width} numbers, {name} gives {found}: "
                f"ask with the embedder of bundle {self.bundle[:12]}"
            )
        expected = np.array([probe.vector for probe in self.probes], np.float32)
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
        cosine = float(((vectors * expected).sum(axis=1) / np.maximum(norms, 1e-9)).min(initial=1))
        if cosine < _ALIKE:
            raise RagftError(
                f"{self.name} is of another embedder than {name}: cosine {cosine:.3f} between "
                f"their vectors of one question; ask with the embedder of bundle {self.bundle[:12]}"
            )


@dataclass(frozen=True)
class State:
    """What a collection holds.

    Attributes:
        live: the generation that is read.
        previous: the one read before it, whole, to go back to.
        building: one that was begun and is not whole.
    """

    live: Manifest | None = None
    previous: Manifest | None = None
    building: Manifest | None = None

    @property
    def generations(self) -> list[Manifest]:
        """All that there are; a store keeps nothing else."""
        return [each for each in (self.live, self.previous, self.building) if each]

    @property
    def number(self) -> int:
        """The highest number that a generation has."""
        return max((each.number for each in self.generations), default=0)

    def next_number(self, family: str) -> int:
        """Return the number of the generation to build: of one that was begun, else the next."""
        begun = self.building
        return begun.number if begun and begun.family == family else self.number + 1

    def require_live(self, collection: str) -> Manifest:
        """Return the generation that is read; RagftError where nothing was published."""
        if self.live is None:
            raise RagftError(f"collection {collection!r}: nothing is published: `ragft publish`")
        return self.live
