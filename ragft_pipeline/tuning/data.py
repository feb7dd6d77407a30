"""What a trainer sees: questions, nodes and base vectors of train, and val for choosing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.retrieval.metrics import PRIMARY, score_rankings
from ragft_pipeline.retrieval.search import rows_at_once, top_k

TOP = 100


@dataclass(frozen=True)
class Questions:
    """Questions of one split and the node that answers each; "" of one that nobody labelled."""

    ids: list[str]
    texts: list[str]
    node_ids: list[str]

    @classmethod
    def from_table(cls, pairs: pa.Table, limit: int | None = None) -> Questions:
        """Take a QA_PAIRS table, or `limit` of it chosen by the questions' hashes.

        Of LOG_QUESTIONS, no node is known to answer any.
        """
        pairs = pairs.sort_by("question_id")
        pairs = pairs.slice(0, limit) if limit is not None else pairs
        ids, texts = (pairs.column(name).to_pylist() for name in ("question_id", "question"))
        labelled = "node_id" in pairs.column_names
        nodes = pairs.column("node_id").to_pylist() if labelled else [""] * len(ids)
        return cls(ids, texts, nodes)

    def __add__(self, other: Questions) -> Questions:
        return Questions(
            self.ids + other.ids, self.texts + other.texts, self.node_ids + other.node_ids
        )

    def __len__(self) -> int:
        return len(self.ids)

    def by_id(self) -> dict[str, str]:
        """Return question id to text."""
        return dict(zip(self.ids, self.texts))

    def answers(self) -> list[list[str]]:
        """Return for each question every node that answers it, or the same question elsewhere."""
        nodes: dict[str, list[str]] = {}
        for text, node_id in zip(self.texts, self.node_ids):
            nodes.setdefault(text, []).extend([node_id] if node_id else [])
        return [nodes[text] for text in self.texts]


@dataclass(frozen=True)
class TrainingTables:
    """The tables a trainer reads: QA_PAIRS and NODES of train, and of val for choosing.

    `log` are the LOG_QUESTIONS that train, which no node is known to answer.
    """

    train_pairs: pa.Table
    val_pairs: pa.Table
    train_nodes: pa.Table
    val_nodes: pa.Table
    log: pa.Table | None = None

    def questions(self, limit: int | None = None) -> Questions:
        """Return the train questions, or `limit` of them chosen by hash."""
        return Questions.from_table(self.train_pairs, limit)

    def taught(self) -> Questions:
        """Return the train questions and those of the log, for who learns from the teacher."""
        own = self.questions()
        return own if self.log is None else own + Questions.from_table(self.log)

    def nodes(self) -> dict[str, str]:
        """Return the train nodes, id to text."""
        return node_texts(self.train_nodes)

    def validation(self, limit: int | None = None) -> Validation:
        """Return the val questions, or `limit` of them, over val and train nodes."""
        questions = Questions.from_table(self.val_pairs, limit)
        return Validation(questions, node_texts(self.train_nodes, self.val_nodes))


@dataclass(frozen=True)
class Validation:
    """Val questions searched among val and train nodes: what training choices are made by."""

    questions: Questions
    nodes: dict[str, str]

    def ndcg(self, query_vectors: np.ndarray, node_vectors: np.ndarray) -> np.ndarray:
        """Return nDCG@10 of each val question for unit vectors in the order of the fields."""
        if not len(self.questions):
            return np.zeros(0)
        rows = rows_at_once(len(node_vectors), len(query_vectors))
        found = [
            top_k(query_vectors[at : at + rows] @ node_vectors.T, TOP)
            for at in range(0, len(query_vectors), rows)
        ]
        return score_rankings(np.concatenate(found), self.relevant())[PRIMARY]

    def relevant(self) -> list[set[int]]:
        """Return for each question the indices of its relevant nodes."""
        column = {node_id: index for index, node_id in enumerate(self.nodes)}
        return [{column[node_id] for node_id in own} for own in self.questions.answers()]
