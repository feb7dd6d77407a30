"""Evidence: what a ranker looks at of a question and a candidate, in one place.

The same code serves a block of questions in an evaluation and one question in serving. Each piece
is scaled within its question: scores by min-max over all nodes, those of second stages over the
candidates. So weights fitted on one corpus mean something on another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.corpus.nodes import headings_of, node_texts, with_context
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import DEPTH
from ragft_pipeline.retrieval.search import MIDDLE, min_max, mix, top_k
from ragft_pipeline.retrieval.terms import Terms

EVIDENCE_VERSION = 2  # raise it when some candidate would get another feature
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


class Neighbours:
    """The document that each node counts in, and the nodes before and after it there.

    Args:
        rows: the columns `PLACE` of a NODES table, a row a node, in the order of the nodes' ids.
    """

    def __init__(self, rows: pa.Table) -> None:
        of = rows.column("doc_key").combine_chunks().dictionary_encode().indices.to_numpy()
        number = rows.num_rows
        order = np.lexsort((rows.column("start_char").to_numpy(), of))
        self.document = of
        self.before, self.after = np.full(number, number), np.full(number, number)
        same = of[order[1:]] == of[order[:-1]]
        self.after[order[:-1][same]] = order[1:][same]
        self.before[order[1:][same]] = order[:-1][same]

    def beside(self, nodes: np.ndarray) -> np.ndarray:
        """Return the nodes before and after some, each once."""
        found = np.unique(np.concatenate([self.before[nodes], self.after[nodes]], axis=None))
        return found[found < len(self.document)]


class Lengths:
    """How long the nodes of a corpus are: lengths in characters, and how many nodes have each."""

    def __init__(self, lengths: np.ndarray, nodes: np.ndarray) -> None:
        logs, share = np.log(np.maximum(1, lengths)), nodes / max(1, nodes.sum())
        self._mean = float(share @ logs)
        self._deviation = max(float(np.sqrt(share @ (logs - self._mean) ** 2)), 1e-9)

    def scaled(self, lengths: np.ndarray) -> np.ndarray:
        """Return texts' lengths as a ranker weighs them, float32."""
        logs = np.log(np.maximum(1, lengths))
        return (0.2 * (logs - self._mean) / self._deviation).astype(np.float32)


def candidates(
    dense: np.ndarray,
    words: np.ndarray,
    nodes: np.ndarray | None,
    around: Neighbours,
    others: Callable[[np.ndarray], Mapping[str, np.ndarray]],
) -> Candidates:
    """Return the best 100 of the hybrid of some questions, with what the first stage says.

    Args:
        dense, words: of the retriever and of BM25 over the passages as they are read, scaled over
            all nodes, float32 (questions, columns).
        nodes: which nodes the columns are, int (questions, columns), ascending; None: all of them.
            Those that are no column have 0.
        others: returns the other evidence of some columns, int (questions, candidates), by name.
    """
    first = mix(dense, words, MIDDLE)
    best = top_k(first, DEPTH)
    found = best if nodes is None else np.take_along_axis(nodes, best, axis=1)
    at = {
        "dense": np.take_along_axis(dense, best, axis=1),
        "bm25": np.take_along_axis(words, best, axis=1),
        **others(best),
    }
    own = np.take_along_axis(first, best, axis=1)
    at["document"] = _best_of_documents(own, around.document[found])
    at["neighbours"] = np.maximum(
        *(_scores_at(first, nodes, beside[found]) for beside in (around.before, around.after))
    )
    features = np.stack([at[name] for name in FIRST_STAGE], axis=2).astype(np.float32)
    return Candidates(found, features, FIRST_STAGE)


class Evidence:
    """The nodes of a corpus as evidence is drawn from them.

    Args:
        texts, read: of the nodes in the order of their ids: alone, and as models and BM25 read
            them. The same where they are read alone.
        indexes: of `texts`, of `read` (ordered), and of titles and headings.
        around: of the nodes.
        lengths: of the texts alone, in characters, int (nodes,).
    """

    def __init__(
        self,
        texts: Sequence[str],
        read: Sequence[str],
        indexes: tuple[LexicalIndex, LexicalIndex, LexicalIndex],
        around: Neighbours,
        lengths: np.ndarray,
    ) -> None:
        self.texts, self.read = texts, read
        self.plain, self.lexical, self.titles = indexes
        self.around, self.lengths = around, lengths
        self._length = Lengths(*np.unique(lengths, return_counts=True)).scaled(lengths)

    @classmethod
    def of(
        cls,
        nodes: pa.Table,
        context: bool,
        language: str,
        terms: Callable[[Sequence[str]], Terms] | None = None,
        around: Neighbours | None = None,
    ) -> Evidence:
        """Index a NODES table.

        Args:
            context: whether passages are read below their titles and headings.
            language: `passages.language`.
            terms: returns the terms of texts, where they may be at hand.
            around: of the nodes, where it is at hand.
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
        around = around or Neighbours(rows.select(PLACE))
        return cls(texts, read, (plain, lexical, titles), around, lengths)

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
            nodes: which nodes the columns are, int (questions, columns), ascending; None: all.
        """
        scaled, lexical = min_max(dense), min_max(words)

        def here(index: LexicalIndex) -> np.ndarray:
            scores = index.scores(questions)
            return scores if nodes is None else np.take_along_axis(scores, nodes, axis=1)

        def others(best: np.ndarray) -> dict[str, np.ndarray]:
            found = best if nodes is None else np.take_along_axis(nodes, best, axis=1)
            alone = self.plain is self.lexical
            shares = [self.lexical.shares(text, row) for text, row in zip(questions, found)]
            coverage, bigrams = (
                np.array([pair[place] for pair in shares]).reshape(found.shape) for place in (0, 1)
            )
            return {
                "base": np.take_along_axis(scaled, best, axis=1)
                if base is dense
                else _min_max_at(base, best),
                "words": np.take_along_axis(lexical, best, axis=1)
                if alone
                else _min_max_at(here(self.plain), best),
                "title": _min_max_at(here(self.titles), best),
                "coverage": coverage,
                "bigrams": bigrams,
                "length": self._length[found],
            }

        return candidates(scaled, lexical, nodes, self.around, others)


def _best_of_documents(scores: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Return for each candidate the best score in its document.

    The best of all nodes are candidates, so the best of a candidate's document is among them.

    Args:
        scores, documents: of candidates, (questions, candidates).
    """
    number = int(documents.max(initial=0)) + 1
    keys = np.arange(len(scores))[:, None] * number + documents
    _, places = np.unique(keys, return_inverse=True)
    best = np.full(int(places.max(initial=-1)) + 1, -np.inf, np.float32)
    np.maximum.at(best, places.reshape(-1), scores.reshape(-1))
    return best[places].reshape(scores.shape)


def _min_max_at(scores: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return `min_max` of all scores at some places, int (questions, places)."""
    ends = np.stack([scores.min(axis=1), scores.max(axis=1)], axis=1)
    some = np.concatenate([ends, np.take_along_axis(scores, places, axis=1)], axis=1)
    return min_max(some)[:, 2:]


def _scores_at(scores: np.ndarray, nodes: np.ndarray | None, asked: np.ndarray) -> np.ndarray:
    """Return the scores of some nodes of each question; of those that are no column, 0.

    Args:
        nodes: the columns' nodes, as `candidates` has them.
    """
    if not scores.size:
        return np.zeros(asked.shape, np.float32)
    if nodes is None:
        known = np.take_along_axis(scores, np.minimum(asked, scores.shape[1] - 1), axis=1)
        return np.where(asked < scores.shape[1], known, np.float32(0))
    steps = np.arange(len(nodes))[:, None] * (int(max(nodes.max(), asked.max())) + 1)
    columns, wanted = (nodes + steps).reshape(-1), (asked + steps).reshape(-1)
    places = np.minimum(np.searchsorted(columns, wanted), len(columns) - 1)
    found = np.where(columns[places] == wanted, scores.reshape(-1)[places], np.float32(0))
    return found.reshape(asked.shape)
