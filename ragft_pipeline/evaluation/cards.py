"""Some nodes as their evaluation sees them: texts, languages and terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from ragft_pipeline.corpus.nodes import with_context
from ragft_pipeline.evaluation.pools import PLAIN, READ, TITLE
from ragft_pipeline.retrieval.evidence import headings_text, places_of_nodes
from ragft_pipeline.retrieval.terms import Terms
from ragft_pipeline.retrieval.wording import Held, Profiles, Wording
from ragft_pipeline.retrieval.words import language_of


@dataclass(frozen=True)
class Cards:
    """Some nodes, by ascending ids, as their evaluation sees them.

    Attributes:
        texts: by kind.
        languages: of the texts, by kind.
    """

    ids: Sequence[str]
    texts: Mapping[str, Sequence[str]]
    languages: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, rows: pa.Table, context: bool, language: str) -> Cards:
        """Return the nodes of a NODES table; of one that has several rows, the last.

        Args:
            context: whether passages are read below their titles and headings.
            language: `passages.language`.
        """
        rows = rows.take(places_of_nodes(rows))
        texts = {PLAIN: rows.column("text").to_pylist()}
        if context:
            texts[READ] = with_context(rows).column("text").to_pylist()
        spoken = {
            kind: [language_of(text, language) for text in own] for kind, own in texts.items()
        }
        texts[TITLE], spoken[TITLE] = headings_text(rows), spoken[PLAIN]
        return cls(rows.column("node_id").to_pylist(), texts, spoken)

    def without(self, others: Cards) -> Cards:
        """Return those that are otherwise, or not, among others."""
        known = set(others._whole)
        places = [place for place, one in enumerate(self._whole) if one not in known]
        return self.at(places)

    def at(self, places: Sequence[int]) -> Cards:
        """Return some of them."""
        return Cards(
            [self.ids[place] for place in places],
            {kind: [own[place] for place in places] for kind, own in self.texts.items()},
            {kind: [own[place] for place in places] for kind, own in self.languages.items()},
        )

    @cached_property
    def _whole(self) -> list[tuple[str, ...]]:
        return list(zip(self.ids, *self.texts.values()))

    @cached_property
    def held(self) -> dict[str, Held]:
        """Their terms by kind."""
        return {kind: Held(Terms.of(own, self.languages[kind])) for kind, own in self.texts.items()}

    def profiles(self, asked: Mapping[str, Wording]) -> dict[str, Profiles]:
        """Return what they have of a question, by kind of text."""
        every = np.arange(len(self.ids))
        return {kind: self.held[kind].profiles(own, every) for kind, own in asked.items()}

    @cached_property
    def characters(self) -> np.ndarray:
        """Of the texts alone, int32 (nodes,)."""
        return np.array([len(text) for text in self.texts[PLAIN]], np.int32)
