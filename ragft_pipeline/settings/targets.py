"""The section `targets` of ragft.yaml: databases into which the champion is published."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ragft_pipeline.settings.section import Section

Collection = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class TargetSettings(Section):
    """A collection in a database that a team runs."""

    kind: Literal["qdrant", "pgvector", "lancedb"]
    where: Annotated[str, Field(min_length=1)]
    collection: Collection
    key_env: str = ""
    parts: Literal["dense", "all"] = "dense"

    @field_validator("where")
    @classmethod
    def _has_no_key(cls, value: str) -> str:
        if ":" in value.partition("://")[2].rpartition("@")[0] or "password=" in value.lower():
            raise ValueError("no password in the address: name its variable in key_env")
        return value

    @model_validator(mode="after")
    def _is_an_address_of_its_kind(self) -> TargetSettings:
        if self.kind == "pgvector" and not self.where.startswith(("postgresql://", "postgres://")):
            raise ValueError("where of a pgvector target begins with postgresql://")
        return self

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.kind} {self.collection}"
