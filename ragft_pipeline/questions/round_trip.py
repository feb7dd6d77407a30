"""The round trip: does a search for a question find the node that it was written about?

A question's rank is how many nodes of the split score higher than its source. Scores depend on
the question, a node and frozen statistics alone, so when the split changes a kept rank follows by
the nodes that left and those that came; only new questions are searched for in all of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragft_pipeline.questions.filters import Candidate
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.search import rows_at_once
from ragft_pipeline.retrieval.terms import Terms, terms_of_units
from ragft_pipeline.retrieval.text_vectors import (
    EncodedText,
    cached_vectors,
    encoded,
    placed,
    units_of,
)
from ragft_pipeline.retrieval.wording import asked_terms
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
_NOBODY = np.empty(0, np.int64)
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
                self._languages = Counter(self._terms.languages)
            else:
                own = self.statistics.language
                gone, came = (
                    Counter(language_of(text, own) for text in texts.values())
                    for texts in (self.kept.gone, self.kept.came)
                )
                self._languages = Counter(self.kept.languages) - gone + came
        return self._languages

    @cached_property
    def _units(self) -> list[EncodedText]:
        return units_of(self.texts)

    @cached_property
    def _terms(self) -> Terms:
        """Of all nodes."""
        return terms_of_units(self.work, self._units, self.statistics.language)

    def _terms_for(self, questions: Sequence[str]) -> Terms:
        """Return the terms of all nodes, or those among them that questions ask for."""
        if self.kept is None:
            return self._terms
        asked = asked_terms(questions, self.languages)
        return terms_of_units(self.work, self._units, self.statistics.language, asked)

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
        left = np.flatnonzero([key not in kept.came for key in changed])
        questions = [one.draft.question for one in asked]
        queries, lexical = self._queries(asked), self._lexical(list(changed.values()))
        own = [rows.column(name).to_numpy() for name in ("dense", "words")]
        _, vectors = cached_vectors(self.work, self.encoder, changed, "document")
        more = (
            _above(partial(_cosines, queries, vectors), own[0], len(changed), left),
            _above(partial(_worded, lexical, questions), own[1], len(changed), left),
        )
        before = [rows.column(name).to_numpy() for name in ("dense_above", "words_above")]
        return _table(asked, *own, *(np.array(before) + more))

    def _searched(self, candidates: Sequence[Candidate]) -> pa.Table:
        """Return the ranks of questions that are put to all nodes, which are read part by part."""
        questions, queries = [one.draft.question for one in candidates], self._queries(candidates)
        terms, units = self._terms_for(questions), self._units
        dense, words = self._own(candidates, queries, terms)
        found = np.zeros((2, len(candidates)), np.int64)
        read = encoded(self.work, self.encoder, units, "document")
        for _, vectors in placed(units, read):
            found[0] += _above(partial(_cosines, queries, vectors), dense, len(vectors))
        for start in range(0, len(units), _NODES):
            some = np.arange(start, min(start + _NODES, len(units)))
            lexical = self._lexical([units[at].text for at in some], terms.take(some))
            found[1] += _above(partial(_worded, lexical, questions), words, len(some))
        return _table(candidates, dense, words, *found)

    def _queries(self, candidates: Sequence[Candidate]) -> np.ndarray:
        texts = {one.question_id: one.draft.question for one in candidates}
        ids, vectors = cached_vectors(self.work, self.encoder, texts, "query")
        if len(ids) == len(candidates):
            return vectors
        place = {question_id: row for row, question_id in enumerate(ids)}
        return vectors[[place[one.question_id] for one in candidates]]

    def _own(
        self, candidates: Sequence[Candidate], queries: np.ndarray, terms: Terms
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores of each question's source.

        Args:
            terms: of all nodes.
        """
        sources = {one.node_id: self.texts[one.node_id] for one in candidates}
        ids, vectors = cached_vectors(self.work, self.encoder, sources, "document")
        place = {node_id: row for row, node_id in enumerate(ids)}
        at = np.array([place[one.node_id] for one in candidates])
        dense = np.einsum("qw,qw->q", queries, vectors[at])
        column = {node_id: number for number, node_id in enumerate(self.texts)}
        own = terms.take(np.array([column[node_id] for node_id in ids]))
        lexical = self._lexical(list(sources.values()), own)
        return dense, lexical.scores_of([one.draft.question for one in candidates], at)


def _cosines(queries: np.ndarray, vectors: np.ndarray, part: slice) -> np.ndarray:
    return np.asarray(queries[part] @ vectors.T)


def _worded(lexical: LexicalIndex, questions: Sequence[str], part: slice) -> np.ndarray:
    return lexical.scores(questions[part])


def _above(
    scores: Callable[[slice], np.ndarray],
    own: np.ndarray,
    nodes: int,
    left: np.ndarray = _NOBODY,
) -> np.ndarray:
    """Return how many nodes have higher scores than each question's source, int64 (questions,).

    Args:
        scores: returns those of some questions, float32 (questions, nodes).
        own: of the sources.
        left: places of the nodes that are counted down.
    """
    found = np.zeros(len(own), np.int64)
    size = rows_at_once(nodes, _QUESTIONS)
    for start in range(0, len(own), size):
        part = slice(start, start + size)
        above = scores(part) > _just_above(own[part])[:, None]
        found[part] = above.sum(axis=1) - 2 * above[:, left].sum(axis=1)
    return found


def _just_above(scores: np.ndarray) -> np.ndarray:
    return scores + _MARGIN * (1 + np.abs(scores))


def _table(candidates: Sequence[Candidate], *numbers: np.ndarray) -> pa.Table:
    columns = [[one.question_id for one in candidates], *numbers]
    return pa.table(dict(zip(_SCHEMA.names, columns)), schema=_SCHEMA)
