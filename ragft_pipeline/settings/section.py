"""What a section of ragft.yaml is, and the kinds of numbers in it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ragft_pipeline.digests import digest_of

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of ragft.yaml: frozen, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def digest(self) -> str:
        """Return the SHA-256 of the section's values: part of an asset's code version."""
        return digest_of(self.model_dump(mode="json"))
