"""Evidence: what a ranker looks at of a question and a candidate, in one place.

The same code serves a block of questions in an evaluation and one question in serving. Each piece
is scaled within its question: scores by min-max over all nodes, those of second stages over the
candidates. So weights fitted on one corpus mean something on another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.corpus.nodes import headings_of, node_texts, with_context
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import DEPTH
from ragft_pipeline.retrieval.search import MIDDLE, min_max, mix, top_k
from ragft_pipeline.retrieval.terms import Terms, runs

EVIDENCE_VERSION = 1  # raise it when some candidate would get another feature
PLACE = ["doc_key", "start_char"]
_READ = 8192  # rows of nodes read at once
LATE_INTERACTION, CROSS_ENCODER = "late interaction", "cross-encoder"
FIRST_STAGE = (
    "dense", "base", "bm25", "words", "title", "document", "neighbours",
    "coverage", "bigrams", "length",
)  # fmt: skip
MEANINGS = {
    "dense": "cosine of the retriever",
    "base": "cosine of the base embedder to the passage alone",
    "bm25": "BM25 of the passage as it is read",
    "words": "BM25 of the passage alone",
    "title": "BM25 of title and headings",
    "document": "the best passage of the same document",
    "neighbours": "the better of the passages before and after",
    "late interaction": "best-matching tokens",
    "coverage": "share of the question's words that the passage holds, rare ones more",
    "bigrams": "share of the question's pairs of words",
    "length": "length of the passage",
    "cross-encoder": "the cross-encoder's score",
}
PairScores = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Candidates:
    """A block's candidates, best of the first stage first, and their evidence.

    Attributes:
        nodes: int (questions, candidates).
        features: float32 (questions, candidates, features), in the order of `names`.
        names: of the features.
    """

    nodes: np.ndarray
    features: np.ndarray
    names: tuple[str, ...]

    def with_scores(self, name: str, scores: np.ndarray) -> Candidates:
        """Return them with one more feature, scaled within each question."""
        added = min_max(scores)[:, :, None].astype(np.float32)
        features = np.concatenate([self.features, added], axis=2)
        return Candidates(self.nodes, features, (*self.names, name))

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """Return blocks of questions as one."""
        nodes, features = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("nodes", "features")
        )
        return cls(nodes, features, parts[0].names)

    def relevant(self, wanted: Sequence[frozenset[int]]) -> np.ndarray:
        """Return which candidates answer, bool (questions, candidates)."""
        rows = [np.isin(row, list(right)) for row, right in zip(self.nodes, wanted)]
        return np.array(rows, bool).reshape(self.nodes.shape)


def places_of_nodes(nodes: pa.Table) -> np.ndarray:
    """Return where each node stands last in a NODES table, in the order of the nodes' ids."""
    ids = nodes.column("node_id").combine_chunks().dictionary_encode()
    last = np.empty(len(ids.dictionary), np.int64)
    last[ids.indices.to_numpy()] = np.arange(nodes.num_rows)
    return last[pc.sort_indices(ids.dictionary).to_numpy()]


def headings_text(nodes: pa.Table) -> list[str]:
    """Return the title and the headings that the rows of a NODES table stand under."""
    above = [name for name in ("title", "heading_path", "heading") if name in nodes.column_names]
    return [
        " ".join([row["title"], *headings_of(row)])
        for batch in nodes.select(above).to_batches(_READ)
        for row in batch.to_pylist()
    ]


class Evidence:
    """The nodes of a corpus as evidence is drawn from them.

    Args:
        texts, read: of the nodes in the order of their ids: alone, and as models and BM25 read
            them. The same where they are read alone.
        indexes: of `texts`, of `read` (ordered), and of titles and headings.
        places: the columns `PLACE` of a NODES table, in the same order.
        lengths: of the texts alone, in characters, int (nodes,).
    """

    def __init__(
        self,
        texts: Sequence[str],
        read: Sequence[str],
        indexes: tuple[LexicalIndex, LexicalIndex, LexicalIndex],
        places: pa.Table,
        lengths: np.ndarray,
    ) -> None:
        self.texts, self.read = texts, read
        self.plain, self.lexical, self.titles = indexes
        self._place(places)
        lengths = np.log(np.maximum(1, lengths)) if len(lengths) else np.zeros(1)
        self._length = (0.2 * (lengths - lengths.mean()) / max(lengths.std(), 1e-9)).astype("f4")

    @classmethod
    def of(
        cls,
        nodes: pa.Table,
        context: bool,
        language: str,
        terms: Callable[[Sequence[str]], Terms] | None = None,
    ) -> Evidence:
        """Index a NODES table.

        Args:
            context: whether passages are read below their titles and headings.
            language: `passages.language`.
            terms: returns the terms of texts, where they may be at hand.
        """

        def index(texts: list[str], ordered: bool) -> LexicalIndex:
            known = terms(texts) if terms else None
            return LexicalIndex(texts, language=language, ordered=ordered, terms=known)

        texts = list(node_texts(nodes).values())
        read = list(node_texts(with_context(nodes)).values()) if context else texts
        plain = index(texts, not context)
        lexical = index(read, True) if context else plain
        rows = nodes.take(places_of_nodes(nodes))
        titles = LexicalIndex(headings_text(rows), languages=plain.languages)
        lengths = np.array([len(text) for text in texts], np.int64)
        return cls(texts, read, (plain, lexical, titles), rows.select(PLACE), lengths)

    def _place(self, rows: pa.Table) -> None:
        """Order the nodes by document and place; one that stands in several counts in one."""
        of = rows.column("doc_key").combine_chunks().dictionary_encode().indices.to_numpy()
        number = rows.num_rows
        order = np.lexsort((rows.column("start_char").to_numpy(), of))
        self._document, self._order = of, order
        self._starts = np.searchsorted(of[order], np.arange(of.max(initial=-1) + 1))
        self._lengths_of_documents = np.diff(self._starts, append=number)
        self._before, self._after = np.full(number, number), np.full(number, number)
        same = of[order[1:]] == of[order[:-1]]
        self._after[order[:-1][same]] = order[1:][same]
        self._before[order[1:][same]] = order[:-1][same]

    def warm(self) -> None:
        """Build what is built at the first question."""
        for index in {self.plain, self.lexical, self.titles}:
            index.scores([""])

    def candidates(
        self,
        questions: Sequence[str],
        dense: np.ndarray,
        words: np.ndarray,
        base: np.ndarray,
        nodes: np.ndarray | None = None,
    ) -> Candidates:
        """Return the best 100 of the hybrid of some questions, with what the first stage says.

        Args:
            dense, words, base: scores (questions, nodes) of the retriever, of `lexical`, and of the
                base embedder over the passages alone.
            nodes: which nodes the columns are, int (questions, columns); None: all of them.
        """

        def here(scores: np.ndarray) -> np.ndarray:
            return scores if nodes is None else np.take_along_axis(scores, nodes, axis=1)

        scaled, lexical = min_max(dense), min_max(words)
        first = mix(scaled, lexical, MIDDLE)
        best = top_k(first, DEPTH)

        def of_best(scores: np.ndarray) -> np.ndarray:
            return np.take_along_axis(scores, best, axis=1)

        at = {"dense": of_best(scaled), "bm25": of_best(lexical)}
        at["base"] = at["dense"] if base is dense else _min_max_at(base, best)
        plain = self.plain is self.lexical
        at["words"] = at["bm25"] if plain else _min_max_at(here(self.plain.scores(questions)), best)
        at["title"] = _min_max_at(here(self.titles.scores(questions)), best)
        del scaled, lexical
        found = best if nodes is None else np.take_along_axis(nodes, best, axis=1)
        if nodes is not None:  # by all nodes; those that were not scored have 0
            whole = np.zeros((len(first), len(self.texts)), np.float32)
            np.maximum.at(whole, (np.arange(len(first))[:, None], nodes), first)
            first = whole
        at["document"] = self._best_of_documents(first, found)
        at["neighbours"] = np.maximum(
            _scores_at(first, self._before[found]), _scores_at(first, self._after[found])
        )
        shares = [self.lexical.shares(text, row) for text, row in zip(questions, found)]
        for place, name in enumerate(("coverage", "bigrams")):
            at[name] = np.array([pair[place] for pair in shares]).reshape(found.shape)
        at["length"] = self._length[found]
        features = np.stack([at[name] for name in FIRST_STAGE], axis=2).astype(np.float32)
        return Candidates(found, features, FIRST_STAGE)

    def _best_of_documents(self, scores: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Return for each node, int (questions, candidates), the best score in its document."""
        number, width = nodes.shape
        rows = np.arange(number).repeat(width)
        asked = rows * len(self._starts) + self._document[nodes].reshape(-1)
        pairs, places = np.unique(asked, return_inverse=True)
        rows, documents = np.divmod(pairs, max(1, len(self._starts)))
        lengths = self._lengths_of_documents[documents]
        members = self._order[runs(self._starts[documents], lengths)]
        if not len(members):
            return np.zeros(nodes.shape, np.float32)
        held = scores[rows.repeat(lengths), members]
        best = np.maximum.reduceat(held, np.cumsum(lengths) - lengths)
        return np.asarray(best[places]).reshape(number, width)


def _min_max_at(scores: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return `min_max` of all scores at some places, int (questions, places)."""
    ends = np.stack([scores.min(axis=1), scores.max(axis=1)], axis=1)
    some = np.concatenate([ends, np.take_along_axis(scores, places, axis=1)], axis=1)
    return min_max(some)[:, 2:]


def _scores_at(scores: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the scores of some nodes of each question; of the one after the last, 0."""
    known = np.take_along_axis(scores, np.minimum(nodes, scores.shape[1] - 1), axis=1)
    return np.where(nodes < scores.shape[1], known, np.float32(0))
