"""The one PyArrow schema of every table artifact, and what identifies its rows."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from ragft_pipeline.store.tables import Layout

VECTOR = pa.list_(pa.float32())


@dataclass(frozen=True)
class Table:
    """A table artifact: its schema, the columns that identify a row and those that describe it.

    `volatile` columns (timings, floating-point vectors that depend on the company they were
    computed in, where a document lies) are stored but left out of the data version. A `segment` has
    so many rows in the mean.
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    volatile: tuple[str, ...] = ()
    segment: int = 4096

    @property
    def layout(self) -> Layout:
        """How its rows are written: as they come, a document or what else comes first in the key
        whole in one segment.
        """
        return Layout(self.schema, self.key[0], self.volatile, self.segment)

    @property
    def keyed(self) -> Layout:
        """The same where the data version is not made of the rows: their keys tell them apart."""
        rest = (name for name in self.schema.names if name not in self.key)
        return Layout(self.schema, self.key[0], tuple(rest), self.segment)


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


S, N, F, B = pa.string(), pa.int64(), pa.float64(), pa.bool_()

DOCUMENTS = Table(
    "documents",
    _schema(
        path=S, doc_key=S, raw_sha256=S, bytes=N, characters=N, title=S, markdown=B,
        cluster=S, split=S, file=S, file_key=S, start_char=N,
        metadata=S, front=N,
    ),
    key=("path",),
)  # fmt: skip
GOLD_LEFT_OUT = Table(
    "gold_left_out", _schema(place=S, question=S, reason=S, detail=S), key=("place",)
)
SKIPPED = Table("skipped", _schema(path=S, reason=S), key=("path",))
WARNINGS = Table("warnings", _schema(path=S, warning=S), key=("path", "warning"))
LEDGER = Table(
    "ledger",
    _schema(doc_key=S, path=S, cluster=S, split=S, signature=pa.binary()),
    key=("doc_key",),
)
NODES = Table(
    "nodes",
    _schema(
        node_id=S, doc_key=S, cluster=S, split=S, title=S, heading_path=pa.list_(S), text=S,
        start_char=N, end_char=N, tokens=N,
    ),
    key=("doc_key", "node_id", "start_char"),
    segment=1024,  # a bundle has vectors and token vectors beside each, which an edit writes anew
)  # fmt: skip
GOLD_QUESTIONS = Table(
    "gold_questions",
    _schema(
        question_id=S, question=S, doc_key=S, cluster=S, split=S,
        answers=pa.list_(pa.struct([("start", N), ("end", N), ("doc_key", S), ("grade", N)])),
        whole=pa.list_(S), whole_grades=pa.list_(N),
        rejected=pa.list_(pa.struct([("start", N), ("end", N), ("doc_key", S)])), asked_as=S,
    ),
    key=("question_id",),
)  # fmt: skip
LOG_QUESTIONS = Table(
    "log_questions", _schema(question_id=S, question=S, asked=N, part=S), key=("question_id",)
)
QA_PAIRS = Table(
    "qa_pairs",
    _schema(
        question_id=S, question=S, kind=S, generator=S, node_id=S, doc_key=S, cluster=S,
        answer_start=N, answer_end=N,
    ),
    key=("question_id",),
)  # fmt: skip
CORPUS_STATISTICS = Table(
    "corpus_statistics",
    _schema(term=S, context=B, document_frequency=N, nodes=N, mean_length=F, language=S),
    key=("term", "context"),
)
"""Of the passages alone and, where `context` says so, of the passages below their headings."""
VECTORS = Table(
    "vectors", _schema(row_key=S, text_id=S, vector=VECTOR), key=("row_key",), volatile=("vector",)
)
NODE_VECTORS = Table("node_vectors", _schema(text_id=S, row_key=S), key=("text_id",))
"""Which of the artifact's VECTORS, by its row key, is a node's."""
TEACHER_SCORES = Table(
    "teacher_scores",
    _schema(
        question_id=S, node_ids=pa.list_(S), scores=pa.list_(pa.float32()),
    ),
    key=("question_id",),
    volatile=("scores",),
)  # fmt: skip
EVAL_ROWS = Table(
    "retrieval_eval",
    _schema(
        question_id=S, question=S, question_set=S, system=S, cluster=S, held_out=B,
        relevant=pa.list_(S), top_nodes=pa.list_(S), first_rank=N,
        hit_at_1=F, hit_at_5=F, hit_at_10=F, mrr_at_10=F, ndcg_at_10=F, recall_at_100=F,
        unjudged_at_10=F, condensed_ndcg_at_10=F,
    ),
    key=("question_id", "question_set", "system"),
)  # fmt: skip
TOOL_CATALOG = Table(
    "tool_catalog",
    _schema(
        tool_id=S, scope=S, scope_id=S, kind=S, path=S, title=S, split=S, description=S,
    ),
    key=("tool_id",),
    volatile=("path",),
)  # fmt: skip
ROUTER_QUESTIONS = Table(
    "router_questions",
    _schema(
        question_id=S, question=S, form=S, doc_key=S, cluster=S, split=S, node_ids=pa.list_(S),
        gain_vector=F, gain_summary=F, gain_keyword=F,
    ),
    key=("question_id",),
    volatile=("gain_vector", "gain_summary"),
)  # fmt: skip
ROUTER_EVAL = Table(
    "router_eval",
    _schema(
        question_id=S, question=S, question_set=S, system=S, cluster=S, held_out=B,
        relevant=pa.list_(S), first_rank=N, recall_at_1=F, recall_at_5=F, recall_at_10=F,
        confidence=F, picked=N, abstained=B,
        ndcg_first=F, ndcg_picked=F, ndcg_all=F, ndcg_best=F, kind=S, best_kinds=pa.list_(S),
    ),
    key=("question_id", "question_set", "system"),
)  # fmt: skip
MESSAGES = pa.list_(pa.struct([("role", S), ("content", S)]))
CHATS = Table(
    "chats",
    _schema(
        chat_id=S, kind=S, question_id=S, node_id=S, doc_key=S, cluster=S,
        passages=pa.list_(S), source=N, messages=MESSAGES,
    ),
    key=("chat_id",),
)  # fmt: skip
LLM_EVAL = Table(
    "llm_eval",
    _schema(
        question_id=S, question=S, question_set=S, system=S, mode=S, cluster=S, held_out=B,
        sources=pa.list_(S), reference=S, answer=S, passages=pa.list_(S), relevant=pa.list_(N),
        cited=pa.list_(N), declined=B, token_f1=F, exact_match=F, citation_precision=F,
        faithfulness=F, prompt_tokens=N, completion_tokens=N,
    ),
    key=("question_id", "question_set", "system", "mode"),
)  # fmt: skip
LLM_LOSSES = Table(
    "llm_losses",
    _schema(text_id=S, text_set=S, system=S, cluster=S, loss=F),
    key=("text_id", "text_set", "system"),
)
LATENCY = Table("latency", _schema(system=S, queries=N, p50_ms=F, p95_ms=F), key=("system",))
