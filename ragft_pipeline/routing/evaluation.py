"""The evaluation of routing: does it find the right tools, say how sure it is, and cost nothing?

Every question is asked of the whole catalog. A row a question a system says where the right tool
came, and what searching the first tool, the picked ones, all, and the best one and kind achieves.
People's questions are asked of the router as it is served, each with the choice that no question of
its fold had a part in; its maps are trained on synthetic questions about train documents alone, so
held-out documents' questions are tomorrow's as well. Where people ask too little, synthetic
questions are asked too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.folds import folds_of
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.question_sets import (
    SERVED,
    SYNTHETIC,
    RelevanceIndex,
    gold_set,
    in_own_words,
    synthetic_set,
)
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.routing.asked import Asked, Passages, SearchedTools
from ragft_pipeline.routing.catalog import KINDS, ToolDocument, describing
from ragft_pipeline.routing.questions import GAINS
from ragft_pipeline.routing.reordering import Scorers, reranked
from ragft_pipeline.routing.router import CANDIDATES, Router, searched_kinds
from ragft_pipeline.routing.tool_index import ToolIndex
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

ROUTER = "router"
UNTUNED = "embedding of descriptions"
WORDS = "BM25 of descriptions"
KIND_SET = "router_test"
_MOST = 600
_TIES = 1e-6


@dataclass(frozen=True)
class RoutingData:
    """The tables an evaluation of routing reads: the whole corpus version.

    Attributes:
        documents, nodes, catalog: of all splits.
        questions: ROUTER_QUESTIONS of the test split.
        test_pairs: QA_PAIRS of the test split.
        gold: GOLD_QUESTIONS.
    """

    documents: Sequence[ToolDocument]
    nodes: pa.Table
    catalog: pa.Table
    questions: pa.Table
    test_pairs: pa.Table
    gold: pa.Table


def evaluate_routing(
    data: RoutingData,
    router: Router,
    scorers: Scorers,
    settings: Settings,
    work: Workspace,
) -> pa.Table:
    """Return ROUTER_EVAL rows: people's questions, or too few and synthetic ones; those by kind."""
    encoder = Encoder.base(settings.embedder, settings.compute)
    tools = _Tools.of(data, encoder, settings, work)
    column = tools.passages.column
    nodes = RelevanceIndex(data.nodes, column)
    sets = [gold_set(SERVED, data.gold, nodes).first(_MOST)]
    if len(sets[0]) < settings.evaluation.min_gold:
        own_words = in_own_words(data.test_pairs)
        sets.append(synthetic_set(SYNTHETIC, own_words, nodes, column, True).first(_MOST))
    parts = [_kind_rows(data.questions, router, encoder, work)]
    for questions in sets:
        asked = Asked.of(questions, tools.passages, encoder, work)
        folds = folds_of(questions.clusters)
        for fold in np.unique(folds).tolist():
            part = asked.at(np.flatnonzero(folds == fold))
            parts += _tool_rows(part, tools, router.without(fold), scorers, work)
    return pa.concat_tables(parts)


@dataclass(frozen=True)
class _Tools:
    """The catalog as the router, the untuned selector and BM25 see it, and the nodes below."""

    index: ToolIndex
    described: np.ndarray
    words: LexicalIndex
    passages: Passages

    @classmethod
    def of(cls, data: RoutingData, encoder: Encoder, settings: Settings, work: Workspace) -> _Tools:
        kept = settings.router.vectors_per_tool
        index = ToolIndex.of(data.documents, data.catalog, kept, encoder, work)
        descriptions = describing(data.catalog)
        own = {key: descriptions[key] for key in index.doc_keys}
        _, described = cached_vectors(work, encoder, own, "document")
        passages = Passages.of(data.documents, encoder, work)
        return cls(index, described, LexicalIndex(list(own.values())), passages)


def _tool_rows(
    asked: Asked, tools: _Tools, router: Router, scorers: Scorers, work: Workspace
) -> list[pa.Table]:
    searched = SearchedTools(asked, tools.passages)
    scores = reranked(router, scorers, tools.index, asked, work)
    best, confidences = router.confidences(scores)
    picked, abstained = router.pick(confidences)
    kind_shares = router.kinds.shares(asked.vectors, asked.questions.texts)
    kinds = [searched_kinds(row, router.choice.kind_floor) for row in kind_shares]
    systems = {
        ROUTER: (best, confidences[:, 0], picked, abstained, kinds),
        UNTUNED: _plain(asked.vectors @ tools.described.T, picked),
        WORDS: _plain(tools.words.scores(asked.questions.texts), picked),
    }
    best_found = _best_of_all(searched, asked)
    return [
        _rows(asked, name, tools.passages, searched, best_found, *system)
        for name, system in systems.items()
    ]


def _plain(
    scores: np.ndarray, picked: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[tuple[str, ...]]]:
    """Return a selector without confidence: it picks as many tools as the router, all kinds."""
    never = np.zeros(len(scores), bool)
    return (
        top_k(scores, CANDIDATES),
        np.full(len(scores), np.nan),
        picked,
        never,
        [KINDS] * len(scores),
    )


def _best_of_all(searched: SearchedTools, asked: Asked) -> np.ndarray:
    """Return what searching the right tools by the best kinds is worth, float (questions,)."""
    kinds: tuple[tuple[str, ...], ...] = (KINDS, *((kind,) for kind in KINDS))
    right = [sorted(tools) for tools in asked.tools]
    return np.asarray(
        np.max([searched.within(right, [kind] * len(right)) for kind in kinds], axis=0)
    )


def _rows(
    asked: Asked,
    system: str,
    passages: Passages,
    searched: SearchedTools,
    best_found: np.ndarray,
    best: np.ndarray,
    confidence: np.ndarray,
    picked: np.ndarray,
    abstained: np.ndarray,
    kinds: Sequence[Sequence[str]],
) -> pa.Table:
    questions = asked.questions
    ranks = asked.first_ranks(best)
    first = searched.within([row[:1].tolist() for row in best], [KINDS] * len(asked))
    some = searched.within([row[:n].tolist() for row, n in zip(best, picked)], kinds)
    found = {f"recall_at_{k}": ((ranks > 0) & (ranks <= k)).astype(float) for k in (1, 5, 10)}
    return pa.table(
        {
            "question_id": questions.ids,
            "question": questions.texts,
            "question_set": [questions.name] * len(asked),
            "system": [system] * len(asked),
            "cluster": questions.clusters,
            "held_out": questions.held_out,
            "relevant": [
                sorted(passages.node_ids[node] for node in own) for own in questions.relevant
            ],
            "first_rank": ranks,
            **found,
            "confidence": confidence.astype(float),
            "picked": picked,
            "abstained": abstained,
            "ndcg_first": first,
            "ndcg_picked": np.where(abstained, searched.whole, some),
            "ndcg_all": searched.whole,
            "ndcg_best": best_found,
            "kind": ["+".join(own) for own in kinds],
            "best_kinds": pa.array([[]] * len(asked), pa.list_(pa.string())),
        },
        schema=schemas.ROUTER_EVAL.schema,
    )


def _kind_rows(questions: pa.Table, router: Router, encoder: Encoder, work: Workspace) -> pa.Table:
    """Return rows of the test questions by kind: the likeliest kind, and those that gain most.

    Questions on which all kinds gain alike say nothing of kinds and are left out.
    """
    rows = questions.sort_by("question_id").to_pylist()
    gains = np.array([[row[name] for name in GAINS] for row in rows]).reshape(-1, len(KINDS))
    rows = [row for row, own in zip(rows, gains) if own.max() - own.min() > _TIES]
    gains = np.array([[row[name] for name in GAINS] for row in rows]).reshape(-1, len(KINDS))
    asked = {row["question_id"]: row["question"] for row in rows}
    _, queries = cached_vectors(work, encoder, asked, "query")
    likely = router.kinds.shares(queries, list(asked.values())) if rows else gains
    nothing = [float("nan")] * len(rows)
    numbers = ("recall_at_1", "recall_at_5", "recall_at_10")
    ndcgs = ("ndcg_first", "ndcg_picked", "ndcg_all", "ndcg_best")
    best = gains.max(axis=1, initial=0.0)
    columns = {
        "question_id": list(asked),
        "question": list(asked.values()),
        "question_set": [KIND_SET] * len(rows),
        "system": [ROUTER] * len(rows),
        "cluster": [row["cluster"] for row in rows],
        "held_out": [True] * len(rows),
        "relevant": [row["node_ids"] for row in rows],
        "first_rank": [0] * len(rows),
        **dict.fromkeys((*numbers, *ndcgs), nothing),
        "confidence": likely.max(axis=1, initial=0.0).tolist(),
        "picked": [0] * len(rows),
        "abstained": [False] * len(rows),
        "kind": [KINDS[i] for i in likely.argmax(axis=1)] if rows else [],
        "best_kinds": [
            [kind for kind, gain in zip(KINDS, own) if gain >= top - _TIES]
            for own, top in zip(gains, best)
        ],
    }
    return pa.table(
        {name: columns[name] for name in schemas.ROUTER_EVAL.schema.names},
        schema=schemas.ROUTER_EVAL.schema,
    )
