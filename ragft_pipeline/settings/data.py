"""Sections of ragft.yaml about the corpus: documents, chunks, splits, the base embedder."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ragft_pipeline.settings.section import Count, Rate, Section


class CorpusSettings(Section):
    """Where the documents are and which of them are read."""

    source: str = "data/sample"
    gold_questions: str | None = None
    suffixes: tuple[str, ...] = (
        ".md", ".markdown", ".mdx", ".txt", ".text", ".html", ".htm", ".xhtml", ".pdf", ".docx",
        ".pptx", ".xlsx", ".odt", ".epub", ".rtf", ".csv", ".tsv", ".rst", ".adoc", ".asciidoc",
        ".ipynb", ".eml",
    )  # fmt: skip
    exclude: tuple[str, ...] = ()
    max_file_mb: Annotated[float, Field(gt=0, le=1024)] = 20.0
    max_text_mb: Annotated[float, Field(gt=0, le=1024)] = 20.0
    encodings: tuple[str, ...] = ("utf-8",)

    @field_validator("suffixes")
    @classmethod
    def _begin_with_a_dot(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for suffix in value:
            if not suffix.startswith(".") or suffix in (".", "..") or "/" in suffix:
                raise ValueError(f"{suffix!r} is no suffix: write it as '.{suffix.strip('*.')}'")
        return tuple(suffix.lower() for suffix in value)

    @field_validator("encodings")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            try:
                is_text = codecs.lookup(name)._is_text_encoding
            except LookupError:
                is_text = False
            if not is_text:
                raise ValueError(
                    f"{name!r} is no text encoding that Python knows (gb18030, cp1252)"
                )
        return value

    @field_validator("exclude")
    @classmethod
    def _are_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from pathspec import GitIgnoreSpec

        for pattern in value:
            try:
                GitIgnoreSpec.from_lines([pattern])
            except ValueError as error:
                raise ValueError(f"{pattern!r} is no gitignore pattern ({error})") from None
        return value


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
    query_prompt: str | None = None
    document_prompt: str | None = None
    trust_remote_code: bool = False


class StatisticsSettings(Section):
    """When the frozen corpus statistics are renewed."""

    refresh_share: Rate = 0.1


class PassageSettings(Section):
    """What models and BM25 read of a passage; what people are shown is the passage alone."""

    context: Literal["auto", "on", "off"] = "auto"
    language: str = "auto"

    @field_validator("language")
    @classmethod
    def _can_be_stemmed(cls, language: str) -> str:
        if language not in ("auto", "off"):
            from Stemmer import algorithms

            if language not in algorithms():
                raise ValueError(f"must be auto, off or one of {', '.join(algorithms())}")
        return language
