"""BM25 over stemmed words and, for unspaced scripts, character bigrams.

The library of choice (bm25s) derives term statistics from the corpus it indexes. Training rows
must not depend on the whole corpus, so this index takes frozen statistics where
it is given some; with its own statistics its scores equal bm25s' Lucene variant, which a test
checks.

A text's terms depend on that text alone: its words are stemmed by its own language. A question is
too short to tell its language, so its words take the form that each language of the indexed texts
would give them, and meet whichever is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from ragft_pipeline import schemas
from ragft_pipeline.digests import digest_of
from ragft_pipeline.retrieval.terms import Terms
from ragft_pipeline.retrieval.wording import (
    K1,
    B,
    Held,
    Wording,
    inverse_frequency,
    wording,
)
from ragft_pipeline.retrieval.words import AUTO, TERMS_VERSION, language_of, lexical_terms, words_of

_TEXTS_AT_ONCE = 65_536


@dataclass(frozen=True)
class TermStatistics:
    """How often terms occur in a corpus of nodes: what BM25 weights come from.

    `language` is `passages.language`, by which the terms were made.
    """

    document_frequency: dict[str, int]
    nodes: int
    mean_length: float
    language: str = AUTO

    @classmethod
    def of(cls, texts: Iterable[str], language: str = AUTO) -> TermStatistics:
        """Count the terms of `texts`, one node each.

        Args:
            language: `passages.language`, for all of them or as each text tells it.
        """
        frequency: Counter[str] = Counter()
        number = length = 0
        for text in texts:
            terms = lexical_terms(text, language_of(text, language))
            frequency.update(set(terms))
            number += 1
            length += len(terms)
        return cls(dict(frequency), number, length / max(1, number), language)

    @classmethod
    def from_table(cls, table: pa.Table, context: bool = False) -> TermStatistics:
        """Read a CORPUS_STATISTICS table: of the passages alone, or below their headings."""
        table = table.filter(pc.equal(table.column("context"), context))
        if not table.num_rows:
            return cls({}, 0, 1.0)
        terms = table.column("term").to_pylist()
        counts = table.column("document_frequency").to_pylist()
        nodes, mean = table.column("nodes")[0].as_py(), table.column("mean_length")[0].as_py()
        language = table.column("language")[0].as_py()
        return cls(dict(zip(terms, counts)), nodes, mean, language)

    def to_table(self, context: bool = False) -> pa.Table:
        """Return a CORPUS_STATISTICS table of statistics without or with context."""
        rows = [
            {
                "term": term,
                "context": context,
                "document_frequency": n,
                "nodes": self.nodes,
                "mean_length": self.mean_length,
                "language": self.language,
            }
            for term, n in sorted(self.document_frequency.items())
        ]
        return pa.Table.from_pylist(rows, schema=schemas.CORPUS_STATISTICS.schema)

    @cached_property
    def digest(self) -> str:
        """A digest of all that decides what is made with them."""
        counted = sorted(self.document_frequency.items())
        return digest_of(TERMS_VERSION, self.language, counted, self.nodes, self.mean_length)

    def idf(self, term: str) -> float:
        """Return Lucene's inverse document frequency of a term, known or not."""
        found = self.document_frequency.get(term, 0)
        return float(inverse_frequency(self.nodes, np.array(found)))


def key_words(texts: Sequence[str], statistics: TermStatistics) -> list[str]:
    """Return the words that tell some texts from others, best first, as they stand there.

    The order is that of frequency times inverse frequency of their terms; numbers are left out,
    and of the forms of a term the first of the most frequent is taken.
    """
    counts: Counter[str] = Counter()
    forms: dict[str, Counter[str]] = {}
    for text in texts:
        words = words_of(text)
        terms = lexical_terms(words, language_of(text, statistics.language))
        for word, term in zip(words, terms):
            if not term.isdigit():
                counts[term] += 1
                forms.setdefault(term, Counter())[word] += 1
    ranked = sorted(counts, key=lambda term: (-counts[term] * statistics.idf(term), term))
    return [forms[term].most_common(1)[0][0] for term in ranked]


class LexicalIndex:
    """BM25 scores of queries against texts (Robertson et al. 1994, Lucene's variant).

    Args:
        texts: what is searched.
        statistics: frozen ones; None counts the texts themselves.
        language: `passages.language`: `auto`, `off` or a Snowball stemmer's name; where there are
            statistics it is theirs.
        languages: each text's, where it is known from elsewhere, as for a title.
        asked_in: the languages whose forms a question takes; None: all of the texts'.
        ordered: keep each text's terms in order as well, for `shares`.
        terms: the texts' terms, where they are at hand.
    """

    def __init__(
        self,
        texts: Sequence[str],
        statistics: TermStatistics | None = None,
        language: str = AUTO,
        languages: Sequence[str] | None = None,
        asked_in: Sequence[str] | None = None,
        ordered: bool = False,
        terms: Terms | None = None,
    ) -> None:
        self.texts = texts
        self._statistics = statistics
        self._language = statistics.language if statistics else language
        self._languages = languages
        self._asked_in = asked_in
        self._ordered = ordered
        self._given = terms
        self._vocabulary: dict[str, int] = {}

    @cached_property
    def languages(self) -> list[str]:
        """The language of each text; empty where none is told."""
        if self._given is not None:
            return self._given.languages
        if self._languages is not None:
            return list(self._languages)
        return [language_of(text, self._language) for text in self.texts]

    @cached_property
    def _spoken(self) -> list[str]:
        spoken = self.languages if self._asked_in is None else self._asked_in
        return sorted(set(spoken)) or [""]

    def wording(self, query: str) -> Wording:
        """Return a question's words as these texts may have them."""
        return wording(query, tuple(self._spoken))

    @cached_property
    def terms(self) -> Terms:
        """The texts' terms."""
        return self._given or Terms.of(self.texts, self.languages)

    @cached_property
    def _weights(self) -> sparse.csr_matrix:
        """The texts' weights by term, float32 (terms, texts)."""
        terms = self.terms
        self._vocabulary = terms.vocabulary
        self._held = Held(terms) if self._ordered else None
        ends = np.cumsum(terms.standing)
        shape = (len(ends), max(1, len(self._vocabulary)))
        ones = np.ones(len(terms.sequence), np.float32)
        counts = sparse.csr_matrix((ones, terms.sequence.copy(), np.append(0, ends)), shape=shape)
        counts.sum_duplicates()
        self._weigh(counts.data, counts.indices, counts.indptr, terms.lengths)
        return counts.T.tocsr()

    def _weigh(
        self, values: np.ndarray, terms: np.ndarray, ends: np.ndarray, lengths: np.ndarray
    ) -> None:
        """Turn the counts in `values` into weights, block by block of texts."""
        statistics = self._statistics or self._own_statistics(terms, lengths)
        self._nodes, self._length = statistics.nodes, int(lengths.sum())
        own = statistics.document_frequency
        self._frequency = np.array([own.get(term, 0) for term in self._vocabulary], np.int64)
        idf = inverse_frequency(statistics.nodes, self._frequency)
        norms = K1 * (1 - B + B * lengths / max(statistics.mean_length, 1e-9))
        for start in range(0, len(lengths), _TEXTS_AT_ONCE):
            rows = slice(start, start + _TEXTS_AT_ONCE)
            places = ends[start : start + _TEXTS_AT_ONCE + 1]
            part = slice(places[0], places[-1])
            norm = np.repeat(norms[rows], np.diff(places))
            count = values[part].astype(np.float64)
            values[part] = idf[terms[part]] * count / (count + norm)

    def _own_statistics(self, terms: np.ndarray, lengths: np.ndarray) -> TermStatistics:
        frequency = np.bincount(terms, minlength=len(self._vocabulary)).tolist()
        mean = int(lengths.sum()) / max(1, len(lengths))
        return TermStatistics(dict(zip(self._vocabulary, frequency)), len(lengths), mean)

    def scores(self, queries: Sequence[str]) -> np.ndarray:
        """Return BM25 scores, float32 of shape (queries, texts)."""
        matrix = self._counted(queries)
        return np.asarray((matrix @ self._weights).todense(), dtype=np.float32)

    def scores_of(self, queries: Sequence[str], texts: np.ndarray) -> np.ndarray:
        """Return the BM25 score of one text for each query, float32 of shape (queries,).

        Args:
            texts: places, int (queries,).
        """
        weights = self._weights.T.tocsr()[texts]
        found = self._counted(queries).multiply(weights).sum(axis=1)
        return np.asarray(found, dtype=np.float32).reshape(-1)

    def _counted(self, queries: Sequence[str]) -> sparse.csr_matrix:
        """Return how often each query has each term, float32 (queries, terms).

        The terms stay in the order of the question, in which products add them up, so that with
        frozen statistics a score is the same to the bit whatever else is indexed.
        """
        terms, vocabulary = self._weights.shape[0], self._vocabulary
        asked = [words_of(query) for query in queries]
        words = list(dict.fromkeys(chain.from_iterable(asked)))
        forms = zip(*(lexical_terms(words, language) for language in self._spoken))
        known = {
            word: [vocabulary[form] for form in dict.fromkeys(own) if form in vocabulary]
            for word, own in zip(words, forms)
        }
        columns: list[int] = []
        values: list[int] = []
        ends = [0]
        for own_words in asked:
            counts: dict[int, int] = {}
            for column in chain.from_iterable(map(known.__getitem__, own_words)):
                counts[column] = counts.get(column, 0) + 1
            columns += counts
            values += counts.values()
            ends.append(len(values))
        return sparse.csr_matrix(
            (np.array(values, np.float32), columns, ends), shape=(len(queries), terms)
        )

    def shares(self, query: str, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what share of a question some texts hold, as `Profiles.shares` does.

        Args:
            texts: places of the texts, int (texts,); the index must be `ordered`.
        """
        _ = self._weights
        assert self._held is not None
        asked = self.wording(query)
        having = self.having(asked)
        idf, rarest = (inverse_frequency(self._nodes, n) for n in (having, np.array(1)))
        own = self._held.profiles(asked, texts)
        return own.shares(asked, idf, having > 0, float(rarest))

    def having(self, asked: Wording) -> np.ndarray:
        """Return how many texts have each term of a question, int64 (terms,)."""
        _ = self._weights
        places = [self._vocabulary.get(term, -1) for term in asked.terms]
        return np.array([self._frequency[at] if at >= 0 else 0 for at in places], np.int64)
