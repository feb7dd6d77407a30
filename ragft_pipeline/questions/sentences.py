"""Sentences of a text, of any script."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"[^.!?。！？\n]+(?:[.!?。！？](?=\S)[^.!?。！？\n]+)*[.!?。！？]?")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return where the sentences of a text start and end; a line break ends one too."""
    return [match.span() for match in _SENTENCE.finditer(text)]
