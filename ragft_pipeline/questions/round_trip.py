"""The round trip: does a search for a question find the node that it was written about?

A question's rank is how many nodes of the split score higher than its source. Scores depend on
the question, a node and frozen statistics alone, so when the split changes a kept rank follows by
the nodes that left and those that came; only new questions are searched for in all of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragft_pipeline.questions.filters import Candidate
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.search import rows_at_once
from ragft_pipeline.retrieval.terms import Terms, cached_terms
from ragft_pipeline.retrieval.words import language_of
from ragft_pipeline.store import Workspace

RANKS, LANGUAGES = "round_trip", "round_trip_languages.json"
_SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("dense", pa.float32()),
        ("words", pa.float32()),
        ("dense_above", pa.int64()),
        ("words_above", pa.int64()),
    ]
)
_NODES = 1 << 17  # searched at once
_QUESTIONS = 512
_MARGIN = 1e-5  # scores that differ by less are one: products of other shapes round otherwise


@dataclass(frozen=True)
class Kept:
    """An earlier version's ranks, and by which nodes (id to text) the split differs from it."""

    ranks: pa.Table
    languages: Mapping[str, int]
    gone: Mapping[str, str]
    came: Mapping[str, str]

    @classmethod
    def load(cls, artifact: Path, gone: Mapping[str, str], came: Mapping[str, str]) -> Kept | None:
        """Read what `RoundTrip.save` wrote; None for an artifact of before there were ranks."""
        if not (artifact / LANGUAGES).is_file():
            return None
        languages = json.loads((artifact / LANGUAGES).read_text(encoding="utf-8"))
        return cls(pq.read_table(artifact / f"{RANKS}.parquet"), languages, gone, came)


@dataclass
class RoundTrip:
    """Ranks of questions' sources within a split.

    Attributes:
        texts: the split's nodes, id to text.
        statistics: frozen ones, for BM25.
        encoder: the base embedder.
        kept: an earlier version's ranks, by the same statistics and embedder.
    """

    texts: Mapping[str, str]
    statistics: TermStatistics
    encoder: Encoder
    work: Workspace
    kept: Kept | None = None
    _ranks: list[pa.Table] = field(default_factory=list)
    _languages: Counter[str] | None = None
    _terms: Terms | None = None

    def ranks(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """Return the better of each source's BM25 and base-embedder ranks, from 0."""
        known = self._followed(candidates)
        place = {key: at for at, key in enumerate(known.column("question_id").to_pylist())}
        new = [one for one in candidates if one.question_id not in place]
        table = pa.concat_tables([known, self._searched(new)]) if new else known
        self._ranks.append(table)
        ids = pa.array([one.question_id for one in candidates], pa.string())
        at = pc.index_in(ids, table.column("question_id").combine_chunks())
        table = table.take(at)
        above = [table.column(name).to_numpy() for name in ("dense_above", "words_above")]
        return np.asarray(np.minimum(*above))

    def save(self, folder: Path) -> None:
        """Keep the ranks for a later version."""
        table = pa.concat_tables([_SCHEMA.empty_table(), *self._ranks])
        pq.write_table(table, folder / f"{RANKS}.parquet", compression="zstd")
        languages = json.dumps(self.languages, sort_keys=True)
        (folder / LANGUAGES).write_text(languages, encoding="utf-8")

    @property
    def languages(self) -> Counter[str]:
        """How many nodes are in each language; a question takes the forms of all of them."""
        if self._languages is None:
            if self.kept is None:
                self._languages = Counter(self._all_terms().languages)
            else:
                own = self.statistics.language
                gone, came = (
                    Counter(language_of(text, own) for text in texts.values())
                    for texts in (self.kept.gone, self.kept.came)
                )
                self._languages = Counter(self.kept.languages) - gone + came
        return self._languages

    def _all_terms(self) -> Terms:
        if self._terms is None:
            passages = list(self.texts.values())
            self._terms = cached_terms(self.work, passages, self.statistics.language)
        return self._terms

    def _lexical(self, texts: Sequence[str], terms: Terms | None = None) -> LexicalIndex:
        return LexicalIndex(texts, self.statistics, asked_in=sorted(self.languages), terms=terms)

    def _followed(self, candidates: Sequence[Candidate]) -> pa.Table:
        """Return the ranks of the questions that were kept, as they are now."""
        kept = self.kept
        if kept is None or sorted(kept.languages) != sorted(self.languages):
            return _SCHEMA.empty_table()
        at = pc.index_in(
            kept.ranks.column("question_id"),
            pa.array([one.question_id for one in candidates], pa.string()),
        )
        rows = kept.ranks.filter(pc.is_valid(at))
        asked = [candidates[place] for place in at.drop_null().to_pylist()]
        changed = {**kept.gone, **kept.came}
        if not (asked and changed):
            return rows
        signs = np.array([1 if key in kept.came else -1 for key in changed])
        own = [rows.column(name).to_numpy() for name in ("dense", "words")]
        above = _Above(self._queries(asked), [one.draft.question for one in asked], *own)
        _, vectors = cached_vectors(self.work, self.encoder, changed, "document")
        lexical = self._lexical(list(changed.values()))
        more = above.count(vectors, lexical, signs)
        before = [rows.column(name).to_numpy() for name in ("dense_above", "words_above")]
        return _table(asked, *own, *(np.array(before) + more))

    def _searched(self, candidates: Sequence[Candidate]) -> pa.Table:
        """Return the ranks of questions that are put to all nodes."""
        queries = self._queries(candidates)
        asked = [one.draft.question for one in candidates]
        dense, words = self._own(candidates, queries)
        above = _Above(queries, asked, dense, words)
        ids, terms = list(self.texts), self._all_terms()
        found = np.zeros((2, len(candidates)), np.int64)
        for start in range(0, len(ids), _NODES):
            part = {key: self.texts[key] for key in ids[start : start + _NODES]}
            _, vectors = cached_vectors(self.work, self.encoder, part, "document")
            own = terms.take(np.arange(start, start + len(part)))
            lexical = self._lexical(list(part.values()), own)
            found += above.count(vectors, lexical, np.ones(len(part), np.int64))
        return _table(candidates, dense, words, *found)

    def _queries(self, candidates: Sequence[Candidate]) -> np.ndarray:
        texts = {one.question_id: one.draft.question for one in candidates}
        ids, vectors = cached_vectors(self.work, self.encoder, texts, "query")
        place = {question_id: row for row, question_id in enumerate(ids)}
        return vectors[[place[one.question_id] for one in candidates]]

    def _own(
        self, candidates: Sequence[Candidate], queries: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores of each question's source."""
        sources = {one.node_id: self.texts[one.node_id] for one in candidates}
        ids, vectors = cached_vectors(self.work, self.encoder, sources, "document")
        place = {node_id: row for row, node_id in enumerate(ids)}
        at = np.array([place[one.node_id] for one in candidates])
        dense = np.einsum("qw,qw->q", queries, vectors[at])
        column = {node_id: number for number, node_id in enumerate(self.texts)}
        terms = self._all_terms().take(np.array([column[node_id] for node_id in ids]))
        lexical = self._lexical(list(sources.values()), terms)
        return dense, lexical.scores_of([one.draft.question for one in candidates], at)


@dataclass(frozen=True)
class _Above:
    """Questions with the scores of their sources: counts which nodes have higher ones."""

    queries: np.ndarray
    asked: Sequence[str]
    dense: np.ndarray
    words: np.ndarray

    def count(self, vectors: np.ndarray, lexical: LexicalIndex, signs: np.ndarray) -> np.ndarray:
        """Return how many nodes score higher, by the embedder and by BM25: int (2, questions).

        Args:
            vectors, lexical: of the nodes.
            signs: 1 for a node that is counted, -1 for one that is taken away.
        """
        found = np.zeros((2, len(self.asked)), np.int64)
        size = rows_at_once(len(vectors), _QUESTIONS)
        for start in range(0, len(self.asked), size):
            part = slice(start, start + size)
            dense = self.queries[part] @ vectors.T
            words = lexical.scores(self.asked[part])
            for row, scores, own in ((0, dense, self.dense), (1, words, self.words)):
                above = scores > _just_above(own[part])[:, None]
                found[row, part] = above.sum(axis=1) - 2 * above[:, signs < 0].sum(axis=1)
        return found


def _just_above(scores: np.ndarray) -> np.ndarray:
    return scores + _MARGIN * (1 + np.abs(scores))


def _table(candidates: Sequence[Candidate], *numbers: np.ndarray) -> pa.Table:
    columns = [[one.question_id for one in candidates], *numbers]
    return pa.table(dict(zip(_SCHEMA.names, columns)), schema=_SCHEMA)
