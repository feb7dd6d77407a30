"""The words that a question asks for, how texts have them, and what that is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from ragft_pipeline.retrieval.terms import Terms, runs
from ragft_pipeline.retrieval.words import lexical_terms, words_of

K1, B = 1.5, 0.75


@dataclass(frozen=True)
class Wording:
    """A question's terms, in each form that some languages give its words.

    Attributes:
        terms: the different ones, in the order of the question.
        asked: how often each, float64 of shape (terms,).
        forms: int of shape (languages, words), the place of each word's form among the terms.
    """

    terms: tuple[str, ...]
    asked: np.ndarray
    forms: np.ndarray

    @cached_property
    def pairs(self) -> list[list[tuple[int, int]]]:
        """By language, the different pairs of terms that stand one after the other."""
        return [sorted(set(pairwise(own))) for own in self.forms.tolist()]


@lru_cache(maxsize=1 << 15)  # a run asks the same questions of several sets of nodes
def wording(question: str, languages: tuple[str, ...]) -> Wording:
    """Return a question's terms in the forms of some languages."""
    words = words_of(question)
    forms = [lexical_terms(words, language) for language in languages]
    counts = Counter(term for each in zip(*forms) for term in dict.fromkeys(each))
    place = {term: number for number, term in enumerate(counts)}
    places = np.array([[place[term] for term in own] for own in forms], np.int64)
    shape = (len(languages), len(words))
    return Wording(tuple(counts), np.array([*counts.values()], float), places.reshape(shape))


def asked_terms(questions: Iterable[str], languages: Iterable[str]) -> set[str]:
    """Return all terms that some questions look for."""
    spoken = tuple(sorted(languages))
    return {term for question in questions for term in wording(question, spoken).terms}


def inverse_frequency(nodes: int, having: np.ndarray) -> np.ndarray:
    """Return Lucene's inverse document frequency of terms that some of the nodes have."""
    return np.asarray(np.log(1 + (nodes - having + 0.5) / (having + 0.5)))


@dataclass(frozen=True)
class Profiles:
    """What some texts have of a question.

    Attributes:
        lengths: of the texts, in terms, int32 (texts,).
        counts: how often each has each of the question's terms, int16 (texts, terms).
        pairs: how many of each language's pairs each has, int16 (texts, languages).
    """

    lengths: np.ndarray
    counts: np.ndarray
    pairs: np.ndarray

    def at(self, places: np.ndarray) -> Profiles:
        """Return those of some texts."""
        return Profiles(self.lengths[places], self.counts[places], self.pairs[places])

    @classmethod
    def joined(cls, parts: Sequence[Profiles]) -> Profiles:
        """Return those of all texts."""
        names = ("lengths", "counts", "pairs")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def bm25(self, wording: Wording, idf: np.ndarray, mean_length: float) -> np.ndarray:
        """Return the texts' BM25 scores, float32; the same to the bit whatever texts they are.

        Args:
            idf: of the question's terms.
            mean_length: of all texts.
        """
        norms = K1 * (1 - B + B * self.lengths / max(mean_length, 1e-9))
        found = np.zeros(len(norms))
        for place, weight in enumerate((wording.asked * idf).tolist()):
            count = self.counts[:, place]
            found += weight * count / (count + norms)
        return found.astype(np.float32)

    def shares(
        self, wording: Wording, idf: np.ndarray, known: np.ndarray, rarest: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what share of the question the texts hold: of its terms, and of its pairs.

        Terms weigh by their inverse frequency, those that no text has as the rarest. A word counts
        in any form that the texts' languages give it, pairs in the best of these languages.

        Args:
            idf, known: of the terms: their weight, and whether any text has them.
            rarest: the weight of a term that one text has.

        Returns two arrays float32 of shape (texts,).
        """
        has = self.counts > 0
        places = np.where(known[wording.forms], wording.forms, -1)
        held, whole = np.zeros(len(has)), 0.0
        for word in sorted(set(zip(*places.tolist()))):
            forms = [form for form in word if form >= 0]
            weight = float(idf[forms].max()) if forms else rarest
            whole += weight
            held += weight * has[:, forms].any(axis=1)
        share = np.zeros(len(has))
        for language, own in enumerate(places.tolist()):
            number = len(set(pairwise(own)))
            share = np.maximum(share, self.pairs[:, language] / max(1, number))
        return (held / max(whole, 1e-9)).astype(np.float32), share.astype(np.float32)


class Held:
    """Texts as their terms, to be asked what they have of questions."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._starts = np.cumsum(terms.lengths) - terms.lengths

    def profiles(self, wording: Wording, texts: np.ndarray) -> Profiles:
        """Return what some texts, by their places, have of a question."""
        terms, shape = self.terms, (len(texts), len(wording.terms))
        lengths = terms.lengths[texts]
        pairs = np.zeros((len(texts), len(wording.forms)), np.int16)
        known = np.array([terms.vocabulary.get(term, -1) for term in wording.terms], np.int64)
        there = np.flatnonzero(known >= 0)
        if not len(there) or not len(texts):
            return Profiles(lengths.astype(np.int32), np.zeros(shape, np.int16), pairs)
        place = np.full(len(terms.vocabulary), -1, np.int16)
        place[known[there]] = there
        shown = place[terms.sequence[runs(self._starts[texts], lengths)]]
        at = np.flatnonzero(shown >= 0)
        rows, column = np.repeat(np.arange(len(texts)), lengths)[at], shown[at].astype(np.int64)
        width = shape[1]
        counts = np.bincount(rows * width + column, minlength=len(texts) * width)
        follows = (at[1:] == at[:-1] + 1) & (rows[1:] == rows[:-1])
        both = column[:-1][follows] * width + column[1:][follows]
        standing = rows[1:][follows]
        for language, asked in enumerate(wording.pairs):
            number = np.full(width * width, -1)
            number[[first * width + second for first, second in asked]] = np.arange(len(asked))
            which = number[both]
            found = standing[which >= 0] * len(asked) + which[which >= 0]
            held = np.bincount(found, minlength=len(texts) * len(asked)) > 0
            pairs[:, language] = held.reshape(len(texts), len(asked)).sum(axis=1)
        return Profiles(lengths.astype(np.int32), counts.reshape(shape).astype(np.int16), pairs)
