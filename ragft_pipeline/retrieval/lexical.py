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
from functools import cached_property, lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from ragft_pipeline import schemas
from ragft_pipeline.digests import digest_of
from ragft_pipeline.retrieval.terms import Terms
from ragft_pipeline.retrieval.words import AUTO, TERMS_VERSION, language_of, lexical_terms, words_of

K1, B = 1.5, 0.75
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

    def digest(self) -> str:
        """Return a digest of all that decides what is made with them."""
        counted = sorted(self.document_frequency.items())
        return digest_of(TERMS_VERSION, self.language, counted, self.nodes, self.mean_length)

    def idf(self, term: str) -> float:
        """Return Lucene's inverse document frequency of a term, known or not."""
        found = self.document_frequency.get(term, 0)
        return float(np.log(1 + (self.nodes - found + 0.5) / (found + 0.5)))


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


@lru_cache(maxsize=1 << 15)  # a run asks the same questions of several sets of nodes
def _asked_terms(query: str, languages: tuple[str, ...]) -> Counter[str]:
    words = words_of(query)
    forms = zip(*(lexical_terms(words, language) for language in languages))
    return Counter(term for each in forms for term in dict.fromkeys(each))


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
        self._texts = texts
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
        return [language_of(text, self._language) for text in self._texts]

    @cached_property
    def _spoken(self) -> list[str]:
        spoken = self.languages if self._asked_in is None else self._asked_in
        return sorted(set(spoken)) or [""]

    def query_terms(self, query: str) -> Counter[str]:
        """Return the terms that a question looks for, in each form that the texts may have."""
        return _asked_terms(query, tuple(self._spoken))

    @cached_property
    def _weights(self) -> sparse.csr_matrix:
        """The texts' weights by term, float32 (terms, texts)."""
        terms = self._given or Terms.of(self._texts, self.languages)
        self._vocabulary = terms.vocabulary
        self._sequence = terms.sequence if self._ordered else np.empty(0, np.int32)
        self._lengths = terms.lengths
        self._ends = ends = np.cumsum(self._lengths)
        shape = (len(ends), max(1, len(self._vocabulary)))
        ones = np.ones(len(terms.sequence), np.float32)
        counts = sparse.csr_matrix((ones, terms.sequence.copy(), np.append(0, ends)), shape=shape)
        counts.sum_duplicates()
        self._weigh(counts.data, counts.indices, counts.indptr, self._lengths)
        return counts.T.tocsr()

    def _weigh(
        self, values: np.ndarray, terms: np.ndarray, ends: np.ndarray, lengths: np.ndarray
    ) -> None:
        """Turn the counts in `values` into weights, block by block of texts."""
        statistics = self._statistics or self._own_statistics(terms, lengths)
        self._idf = idf = np.array([statistics.idf(term) for term in self._vocabulary])
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
        terms = self._weights.shape[0]
        columns, values, ends = [], [], [0]
        for query in queries:
            for term, count in self.query_terms(query).items():
                if (column := self._vocabulary.get(term)) is not None:
                    columns.append(column)
                    values.append(count)
            ends.append(len(values))
        counts = np.array(values, np.float32)
        return sparse.csr_matrix((counts, columns, ends), shape=(len(queries), terms))

    def shares(self, query: str, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what share of a question some texts hold: of its terms, and of its bigrams.

        Terms weigh by their inverse frequency, those that no text has as the rarest. A word counts
        in any form that the texts' languages give it, bigrams in the best of these languages.

        Args:
            texts: places of the texts, int (texts,); the index must be `ordered`.

        Returns two arrays float32 of shape (texts,).
        """
        _ = self._weights
        lengths = self._lengths[texts]
        rows = np.repeat(np.arange(len(texts)), lengths)
        starts = np.repeat(self._ends[texts] - lengths, lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        shown = self._sequence[starts + within]
        words = words_of(query)
        forms = [lexical_terms(words, language) for language in self._spoken]
        known = np.array([[self._vocabulary.get(t, -1) for t in each] for each in forms], np.int64)
        held = np.zeros(len(texts), np.float32)
        whole = 0.0
        rarest = float(self._idf.max(initial=0.0))
        for places in np.unique(known, axis=1).T if len(words) else ():
            weight = max((self._idf[at] for at in places if at >= 0), default=rarest)
            whole += weight
            held[np.unique(rows[np.isin(shown, places[places >= 0])])] += weight
        pairs = np.zeros(len(texts), np.float32)
        follows = rows[1:] == rows[:-1]
        for places in known:
            asked = {pair for pair in zip(places.tolist(), places[1:].tolist()) if min(pair) >= 0}
            found = np.zeros(len(texts), np.float32)
            for first, second in asked:
                there = follows & (shown[:-1] == first) & (shown[1:] == second)
                found[np.unique(rows[1:][there])] += 1
            number = len(set(zip(places.tolist(), places[1:].tolist())))
            pairs = np.maximum(pairs, found / max(1, number))
        return held / max(whole, 1e-9), pairs
