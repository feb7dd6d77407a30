"""What a store may hold beside dense vectors: words with BM25's weights, and token vectors.

A weight must not change when another document does, or every edit would rewrite every point. So
the store keeps what a passage alone decides, the saturated count of each term, over a mean length
that is frozen with the collection's first generation (and taken anew when the passages' mean has
moved by a tenth). The inverse frequency is counted when a question is asked: by Qdrant itself (its
modifier `idf` is Lucene's formula, ours), by a count of the rows in PostgreSQL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.publishing.manifest import TOKENS, WORDS, Manifest
from ragft_pipeline.publishing.points import Passage, Point
from ragft_pipeline.retrieval.lexical import K1, B
from ragft_pipeline.retrieval.words import TERMS_VERSION, language_of, lexical_terms, words_of

if TYPE_CHECKING:
    from ragft_pipeline.retrieval.token_vectors import TokenStore

TERM_IDS = 1_000_000_000  # pgvector's sparsevec has so many places; Qdrant more
_MOVED = 0.1  # of the mean length, from which on the weights are made anew


def term_id(term: str) -> int:
    """Return a term's place in a sparse vector; two terms share one once in a billion."""
    return int(digest_of(term)[:15], 16) % TERM_IDS


def question_terms(question: str, manifest: Manifest) -> Counter[str]:
    """Return a question's terms in each form that the passages' languages give them.

    Raises RagftError where the generation holds no words.
    """
    if WORDS not in manifest.parts:
        raise RagftError(f"{manifest.name} holds no words: `parts: all` publishes them")
    words = words_of(question)
    forms = zip(*(lexical_terms(words, language) for language in manifest.languages or [""]))
    return Counter(term for each in forms for term in dict.fromkeys(each))


def frozen_length(mean: float, frozen: float) -> float:
    """Return the mean length to weigh by: the frozen one, unless the passages' is another."""
    return frozen if frozen and abs(mean - frozen) <= _MOVED * frozen else mean


class Words:
    """A passage's terms and their weights.

    Args:
        language: `passages.language`.
    """

    def __init__(self, language: str) -> None:
        self._language = language
        self.identity = digest_of(TERMS_VERSION, language, K1, B)

    def language(self, text: str) -> str:
        """Return the language whose stems a text's words are."""
        return language_of(text, self._language)

    def terms(self, text: str) -> list[str]:
        """Return a text's terms, in order."""
        return lexical_terms(text, self.language(text))

    @staticmethod
    def weights(terms: Sequence[str], mean_length: float) -> tuple[list[int], list[float]]:
        """Return the ids of distinct terms, ascending, and their saturated counts."""
        norm = K1 * (1 - B + B * len(terms) / max(mean_length, 1e-9))
        found: Counter[int] = Counter(term_id(term) for term in terms)
        ids = sorted(found)
        return ids, [found[at] / (found[at] + norm) for at in ids]


class Tokens:
    """A passage's token vectors as the bundle stores them: rotated, a few bits a number."""

    def __init__(self, stored: TokenStore, encoder: str) -> None:
        self._stored = stored
        self.identity = digest_of(encoder, stored.bits)
        self.width = stored.width

    def vectors(self, text: str) -> np.ndarray | None:
        """Return a passage's token vectors; None for one without any."""
        from ragft_pipeline.digests import text_key

        stored = self._stored.of([text])
        row = stored.rows.get(text_key(text))
        found = None if row is None else stored.vectors(row)
        return found if found is not None and len(found) else None


@dataclass(frozen=True)
class Extras:
    """What is held beside the dense vectors, see the attributes of Manifest."""

    words: Words
    mean_length: float
    languages: tuple[str, ...]
    tokens: Tokens | None = None

    @classmethod
    def of(
        cls, texts: Sequence[str], language: str, tokens: Tokens | None, frozen: float = 0.0
    ) -> Extras:
        """Return the extras of passages as they are read.

        Args:
            frozen: the mean length of the generation before; 0 where there is none.
        """
        words = Words(language)
        mean = sum(len(words.terms(text)) for text in texts) / max(1, len(texts))
        languages = tuple(sorted({words.language(text) for text in texts}))
        return cls(words, frozen_length(mean, frozen), languages, tokens)

    @property
    def parts(self) -> tuple[str, ...]:
        """Their names."""
        return (WORDS,) if self.tokens is None else (WORDS, TOKENS)

    @property
    def identity(self) -> str:
        """A digest of what decides them, beside a passage's text."""
        held = self.tokens.identity if self.tokens is not None else ""
        return digest_of(self.words.identity, round(self.mean_length, 6), held)

    def added(self, point: Point, passage: Passage) -> Point:
        """Return a point with them."""
        terms = self.words.terms(passage.read)
        tokens = self.tokens.vectors(passage.read) if self.tokens is not None else None
        words = self.words.weights(terms, self.mean_length)
        return replace(point, words=words, terms=tuple(terms), tokens=tokens)
