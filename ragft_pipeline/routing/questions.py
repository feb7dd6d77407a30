"""Questions a router learns from: facts, overviews and look-ups, and what each index kind gains.

A question's best kind is not what its template says but what a search of that kind achieves on it:
`gain_*` is nDCG@10 of the dense index, of a document's summary, and of BM25.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.digests import digest_of
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.metrics import PRIMARY, score_rankings
from ragft_pipeline.retrieval.question_sets import in_own_words
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.routing.asked import Passages
from ragft_pipeline.routing.catalog import KINDS, ToolDocument, describing, identifiers
from ragft_pipeline.store import Workspace

FACT, OVERVIEW, IDENTIFIER = "fact", "overview", "identifier"
GAINS = tuple(f"gain_{kind}" for kind in KINDS)
_TOP = 10
_BLOCK = 512
_LOOKUPS = 2
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_OVERVIEW_FORMS = (
    "What is {} about?", "Summarise {}", "Give me an overview of {}", "What does {} cover?",
    "The main points of {}",
)  # fmt: skip
_UNSPACED_FORMS = ("{}讲了什么？", "概括一下{}", "{}的主要内容", "{}概述")
_LOOKUP_FORMS = ("{}", "{}", "where is {}", "look up {}")
_UNSPACED_LOOKUPS = ("{}", "{}", "查找{}")


def typed_questions(
    documents: Sequence[ToolDocument], pairs: pa.Table, split: str, max_facts: int
) -> list[dict[str, Any]]:
    """Return a split's questions as ROUTER_QUESTIONS rows without their gains.

    Args:
        documents: of the split.
        pairs: QA_PAIRS of the split; of those in their own words (word for word from the text,
            BM25 would gain most on all) `max_facts` are the facts, chosen by hash.

    An overview's right nodes are all of its document; a look-up's are those that hold the name.
    """

    def row(
        question: str, form: str, doc_key: str, cluster: str, node_ids: list[str]
    ) -> dict[str, Any]:
        return {
            "question_id": digest_of(question, form, doc_key, split)[:32],
            "question": question,
            "form": form,
            "doc_key": doc_key,
            "cluster": cluster,
            "split": split,
            "node_ids": sorted(set(node_ids)),
        }

    facts = in_own_words(pairs).sort_by("question_id").to_pylist()[:max_facts]
    rows = [row(r["question"], FACT, r["doc_key"], r["cluster"], [r["node_id"]]) for r in facts]
    for one in documents:
        draw = random.Random(one.key)
        unspaced = bool(_UNSPACED.search(one.title))
        form = draw.choice(_UNSPACED_FORMS if unspaced else _OVERVIEW_FORMS)
        rows.append(row(form.format(one.title), OVERVIEW, one.doc_key, one.cluster, one.node_ids))
        names = identifiers(one.texts)
        for name in draw.sample(names, min(_LOOKUPS, len(names))):
            holding = [i for i, text in zip(one.node_ids, one.texts) if name in text]
            form = draw.choice(_UNSPACED_LOOKUPS if unspaced else _LOOKUP_FORMS)
            rows.append(row(form.format(name), IDENTIFIER, one.doc_key, one.cluster, holding))
    return list({row["question_id"]: row for row in rows}.values())


@dataclass(frozen=True)
class KindSearch:
    """The three kinds of index over some documents, as untuned as they come.

    Attributes:
        passages: the documents' nodes, for the dense index and BM25.
        summaries: vectors of the documents' descriptions, in the order of `passages.of_tool`.
    """

    passages: Passages
    summaries: np.ndarray

    @classmethod
    def of(
        cls,
        documents: Sequence[ToolDocument],
        catalog: pa.Table,
        encoder: Encoder,
        work: Workspace,
    ) -> KindSearch:
        """Index the documents' nodes and descriptions, encoding only what is new."""
        descriptions = describing(catalog)
        own = {one.doc_key: descriptions[one.doc_key] for one in documents}
        _, summaries = cached_vectors(work, encoder, own, "document")
        return cls(Passages.of(documents, encoder, work), summaries)

    def gains(
        self, rows: Sequence[dict[str, Any]], encoder: Encoder, work: Workspace
    ) -> np.ndarray:
        """Return nDCG@10 of each kind, float (questions, 3) in the order of KINDS."""
        column = self.passages.column
        relevant = [frozenset(column[node_id] for node_id in row["node_ids"]) for row in rows]
        asked = {row["question_id"]: row["question"] for row in rows}
        texts = list(asked.values())
        _, queries = cached_vectors(work, encoder, asked, "query")
        parts = []
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            rankings = (
                top_k(queries[block] @ self.passages.vectors.T, _TOP),
                self._summary_rankings(queries[block]),
                top_k(self.passages.lexical.scores(texts[block]), _TOP),
            )
            scores = [score_rankings(ranking, relevant[block])[PRIMARY] for ranking in rankings]
            parts.append(np.stack(scores, axis=1))
        return np.concatenate(parts) if parts else np.zeros((0, len(KINDS)))

    def _summary_rankings(self, queries: np.ndarray) -> np.ndarray:
        """Return the best documents' nodes in reading order, until there are enough."""
        best = top_k(queries @ self.summaries.T, _TOP)
        rankings = np.full((len(queries), _TOP), -1, np.int64)
        for row, ranked in enumerate(best):
            nodes = np.concatenate([self.passages.of_tool[document] for document in ranked])
            first = list(dict.fromkeys(nodes.tolist()))[:_TOP]
            rankings[row, : len(first)] = first
        return rankings


def router_questions_table(rows: Sequence[dict[str, Any]], gains: np.ndarray) -> pa.Table:
    """Return ROUTER_QUESTIONS."""
    whole = [{**row, **dict(zip(GAINS, own))} for row, own in zip(rows, gains.tolist())]
    return pa.Table.from_pylist(whole, schema=schemas.ROUTER_QUESTIONS.schema)
