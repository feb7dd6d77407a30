"""What the service is asked and what it answers: each answer whole, from one searcher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ragft_pipeline.corpus.document_metadata import Metadata, Value
from ragft_pipeline.retrieval.metrics import DEPTH
from ragft_pipeline.serving.following import Now
from ragft_pipeline.serving.searcher import Hit

_MOST = 32  # conditions of one question


class Asked(BaseModel):
    """A question, and how many passages to answer it with."""

    model_config = ConfigDict(extra="forbid")
    question: str
    top: Annotated[int, Field(ge=1, le=DEPTH)] = 10


class Condition(BaseModel):
    """What the metadata is to be; operators as LlamaIndex names them."""

    model_config = ConfigDict(extra="forbid")
    key: str
    value: Value | list[Value] | None = None
    operator: str = "=="


class Conditions(BaseModel):
    """Filters on the metadata, as LlamaIndex's MetadataFilters are in JSON."""

    model_config = ConfigDict(extra="forbid")
    filters: list[Condition | Conditions]
    condition: Literal["and", "or", "not"] | None = "and"

    @property
    def number(self) -> int:
        """How many conditions there are."""
        return sum(getattr(each, "number", 1) for each in self.filters)


class AskedWithFilters(Asked):
    """A question about the passages whose metadata match."""

    filters: Conditions | None = None

    @field_validator("filters")
    @classmethod
    def _few(cls, filters: Conditions | None) -> Conditions | None:
        if filters is not None and filters.number > _MOST:
            raise ValueError(f"{filters.number} conditions, at most {_MOST}")
        return filters


class Served(BaseModel):
    """What answered: a bundle, the entry of the history that put it there, its corpus version."""

    bundle: str
    entry: int
    version: str
    system: str


class Passage(BaseModel):
    """A passage that answers; `score` orders the passages of one answer and compares no further."""

    rank: int
    node_id: str
    score: float
    parts: dict[str, float]
    text: str
    title: str
    heading: str
    path: str
    metadata: Metadata


class Answer(BaseModel):
    """The passages that answer a question, best first."""

    question: str
    served: Served
    hits: list[Passage]


class ComparedPassage(Passage):
    """A passage, and its rank on the other side; null below that side's first 100."""

    other_rank: int | None


class Comparison(BaseModel):
    """One question answered by the untuned hybrid and by what is served, over the same nodes."""

    question: str
    served: Served
    base_weight: float
    base: list[ComparedPassage]
    champion: list[ComparedPassage]


def answer(now: Now, asked: Asked, filters: Conditions | None = None) -> Answer:
    """Search with what is served."""
    hits = now.searcher.search(asked.question, asked.top, filters)
    passages = [Passage(**vars(hit), rank=rank) for rank, hit in enumerate(hits, start=1)]
    return Answer(question=asked.question, served=_served(now), hits=passages)


def comparison(now: Now, asked: Asked) -> Comparison:
    """Search with the untuned hybrid and with what is served."""
    base = now.searcher.search_base(asked.question, DEPTH)
    champion = now.searcher.search(asked.question, DEPTH)
    return Comparison(
        question=asked.question,
        served=_served(now),
        base_weight=now.searcher.base_weight,
        base=_compared(base, champion, asked.top),
        champion=_compared(champion, base, asked.top),
    )


def _compared(hits: Sequence[Hit], others: Sequence[Hit], top: int) -> list[ComparedPassage]:
    ranks = {hit.node_id: rank for rank, hit in enumerate(others, start=1)}
    return [
        ComparedPassage(**vars(hit), rank=rank, other_rank=ranks.get(hit.node_id))
        for rank, hit in enumerate(hits[:top], start=1)
    ]


def _served(now: Now) -> Served:
    bundle = now.searcher.bundle
    return Served(
        bundle=bundle.digest,
        entry=now.entry.number,
        version=bundle.version,
        system=bundle.configuration.name,
    )
