"""Sections of ragft.yaml about the corpus: documents, chunks, splits, the base embedder."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ragft_pipeline.settings.section import Count, Rate, Section


class CorpusSettings(Section):
    """Where the documents are and which of them are read."""

    source: str = "data/sample"
    gold_questions: str | None = None
    suffixes: tuple[str, ...] = (
        ".md",
        ".markdown",
        ".mdx",
        ".txt",
        ".html",
        ".htm",
        ".pdf",
        ".docx",
    )
    max_file_mb: Annotated[float, Field(gt=0, le=1024)] = 20.0
    max_text_mb: Annotated[float, Field(gt=0, le=1024)] = 20.0
    encodings: tuple[str, ...] = ("utf-8",)


class ChunkingSettings(Section):
    """How documents become nodes; sizes in tokens of the base embedder."""

    size: Annotated[int, Field(ge=32, le=8192)] = 256
    overlap: Count = 24
    markdown: bool = True

    @model_validator(mode="after")
    def _overlap_below_size(self) -> ChunkingSettings:
        if self.overlap * 2 > self.size:
            raise ValueError("overlap must be at most half of size")
        return self


class SplitSettings(Section):
    """Shares of new document clusters that go to val and test (the rest trains)."""

    val: Rate = 0.15
    test: Rate = 0.25
    near_duplicate: Annotated[float, Field(ge=0.5, le=1.0)] = 0.8

    @model_validator(mode="after")
    def _leaves_train(self) -> SplitSettings:
        if self.val + self.test > 0.8:
            raise ValueError("val + test must be at most 0.8")
        return self


class EmbedderSettings(Section):
    """The base embedding model: everything else is measured against it."""

    model: str = "embedded:all-minilm-l6-v2"
    max_tokens: Annotated[int, Field(ge=16, le=8192)] = 256
    query_prompt: str = ""
    document_prompt: str = ""
    trust_remote_code: bool = False


class StatisticsSettings(Section):
    """When the frozen corpus statistics are renewed."""

    refresh_share: Rate = 0.1
