"""What a section of ragft.yaml is, and the kinds of numbers in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Self

from ragft_pipeline.digests import digest_of

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of ragft.yaml: frozen, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def of_release(cls, values: Mapping[str, Any]) -> Self:
        """Return a section that some release wrote down; settings that are gone are passed over."""
        return cls(**{name: values[name] for name in cls.model_fields if name in values})

    def digest(self) -> str:
        """Return the SHA-256 of the section's values: part of an asset's code version."""
        return digest_of(self.model_dump(mode="json"))
