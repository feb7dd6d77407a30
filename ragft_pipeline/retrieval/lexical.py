"""BM25 over words and, for unspaced scripts, character bigrams.

The library of choice (bm25s) derives term statistics from the corpus it indexes. Training rows
must not depend on the whole corpus (DESIGN.md rule 8), so this index takes frozen statistics where
it is given some; with its own statistics its scores equal bm25s' Lucene variant, which a test
checks.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from bm25s.stopwords import STOPWORDS_EN
from scipy import sparse

from ragft_pipeline import schemas

K1, B = 1.5, 0.75
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKENS = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]{{2,}}")
_STOP = frozenset(STOPWORDS_EN)


def lexical_terms(text: str) -> list[str]:
    """Return the terms of a text: lower-case words without English stop words, CJK bigrams."""
    terms: list[str] = []
    for token in _TOKENS.findall(text.lower()):
        if re.match(rf"[{_UNSPACED}]", token):
            terms += [token[i : i + 2] for i in range(len(token) - 1)] or [token]
        elif token not in _STOP:
            terms.append(token)
    return terms


@dataclass(frozen=True)
class TermStatistics:
    """How often terms occur in a corpus of nodes: what BM25 weights come from."""

    document_frequency: dict[str, int]
    nodes: int
    mean_length: float

    @classmethod
    def of(cls, texts: Sequence[str]) -> TermStatistics:
        """Count the terms of `texts`, one node each."""
        frequency: Counter[str] = Counter()
        length = 0
        for text in texts:
            terms = lexical_terms(text)
            frequency.update(set(terms))
            length += len(terms)
        return cls(dict(frequency), len(texts), length / max(1, len(texts)))

    @classmethod
    def from_table(cls, table: pa.Table) -> TermStatistics:
        """Read a CORPUS_STATISTICS table."""
        if not table.num_rows:
            return cls({}, 0, 1.0)
        terms = table.column("term").to_pylist()
        counts = table.column("document_frequency").to_pylist()
        nodes, mean = table.column("nodes")[0].as_py(), table.column("mean_length")[0].as_py()
        return cls(dict(zip(terms, counts)), nodes, mean)

    def to_table(self) -> pa.Table:
        """Return a CORPUS_STATISTICS table."""
        rows = [
            {
                "term": term,
                "document_frequency": n,
                "nodes": self.nodes,
                "mean_length": self.mean_length,
            }
            for term, n in sorted(self.document_frequency.items())
        ]
        return pa.Table.from_pylist(rows, schema=schemas.CORPUS_STATISTICS.schema)

    def idf(self, term: str) -> float:
        """Return Lucene's inverse document frequency of a term, known or not."""
        found = self.document_frequency.get(term, 0)
        return float(np.log(1 + (self.nodes - found + 0.5) / (found + 0.5)))


class LexicalIndex:
    """BM25 scores of queries against texts (Robertson et al. 1994, Lucene's variant)."""

    def __init__(self, texts: Sequence[str], statistics: TermStatistics | None = None) -> None:
        self.statistics = statistics or TermStatistics.of(texts)
        self._texts = texts
        self._vocabulary: dict[str, int] = {}

    @cached_property
    def _weights(self) -> sparse.csc_matrix:
        columns, values, starts = array("i"), array("f"), array("q", [0])  # a number each: no lists
        weights: list[float] = []  # inverse frequencies, by column
        mean = max(self.statistics.mean_length, 1e-9)
        for text in self._texts:
            counts = Counter(lexical_terms(text))
            norm = K1 * (1 - B + B * sum(counts.values()) / mean)
            for term, count in counts.items():
                column = self._vocabulary.setdefault(term, len(self._vocabulary))
                if column == len(weights):
                    weights.append(self.statistics.idf(term))
                columns.append(column)
                values.append(weights[column] * count / (count + norm))
            starts.append(len(columns))
        shape = (len(self._texts), max(1, len(self._vocabulary)))
        parts = (
            np.frombuffer(values, np.float32),
            np.frombuffer(columns, np.int32),
            np.frombuffer(starts, np.int64),
        )
        return sparse.csr_matrix(parts, shape=shape).T.tocsr()

    def scores(self, queries: Sequence[str]) -> np.ndarray:
        """Return BM25 scores, float32 of shape (queries, texts)."""
        weights = self._weights
        rows, columns, values = [], [], []
        for row, query in enumerate(queries):
            for term, count in Counter(lexical_terms(query)).items():
                if (column := self._vocabulary.get(term)) is not None:
                    rows.append(row)
                    columns.append(column)
                    values.append(count)
        shape = (len(queries), weights.shape[0])
        matrix = sparse.csr_matrix((values, (rows, columns)), shape=shape, dtype=np.float32)
        return np.asarray((matrix @ weights).todense(), dtype=np.float32)
