"""Where people's questions are written: the corpus's own file of JSON lines."""

from __future__ import annotations

from pathlib import Path

from ragft_pipeline.corpus.sources import GOLD_FILES, is_local, open_source
from ragft_pipeline.errors import RagftError, redacted
from ragft_pipeline.settings import CorpusSettings


def gold_target(settings: CorpusSettings) -> Path:
    """Return the file of people's questions that can be added to; it may not be there yet.

    Raises RagftError where the documents are not on this machine, or the questions are in a file of
    another kind.
    """
    source = open_source(settings)
    if not is_local(source.fs):
        raise RagftError(
            f"corpus.source {redacted(settings.source)!r} is not on this machine: copy the file of "
            "questions here, name it in corpus.gold_questions, and copy it back"
        )
    if source.gold is None:
        return Path(source.root) / GOLD_FILES[0]
    if not source.gold.lower().endswith(".jsonl"):
        raise RagftError(f"{source.gold} is not one of JSON lines: nothing can be added to it")
    return Path(source.gold)
