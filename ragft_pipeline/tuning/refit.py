"""The refit: the measured recipes, trained once more on all documents.

Models trained without the test documents say honestly what tuning gains; what is released has
seen every document. Strengths are those chosen on val: nothing is chosen here.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Artifact, Workspace
from ragft_pipeline.tuning.adapter import refit_adapter
from ragft_pipeline.tuning.data import Questions
from ragft_pipeline.tuning.embedder import refit_embedder
from ragft_pipeline.tuning.teacher import score_with_teacher

ADAPTER = "embedding_adapter"
STACKED = "stacked_adapter"
EMBEDDER = "tuned_embedder"


def refit_models(
    pairs: pa.Table,
    nodes: pa.Table,
    read: pa.Table,
    statistics: TermStatistics,
    measured: dict[str, Artifact],
    bm25_weight: float,
    settings: Settings,
    work: Workspace,
    log: pa.Table | None = None,
) -> dict[str, Any]:
    """Train what `refit.models` names on all documents, a folder a part below the model folder.

    Args:
        pairs, nodes: QA_PAIRS and NODES of all splits.
        read: the nodes with the texts that models read; the adapter reads passages alone.
        measured: the measured models by asset, for their chosen strengths.
        bm25_weight: the teacher's, chosen before.
        log: LOG_QUESTIONS that train the maps too.

    Returns facts: which parts were refitted, and their losses.
    """
    if settings.refit.models == "none" or not pairs.num_rows:
        work.model.mkdir(parents=True, exist_ok=True)
        return {"refitted": "none"}
    teacher = score_with_teacher(pairs, read, statistics, bm25_weight, settings, work)
    questions, texts = Questions.from_table(pairs), node_texts(read)
    taught, scores = questions, teacher
    if log is not None and log.num_rows:
        taught = questions + Questions.from_table(log)
        asked = score_with_teacher(log, read, statistics, bm25_weight, settings, work)
        scores = pa.concat_tables([teacher, asked])

    def strength(asset: str) -> float:
        return float(measured[asset].facts["strength"])

    def adapter(asset: str, encoder: Encoder, texts: dict[str, str]) -> dict[str, Any]:
        folder = work.model / asset
        return refit_adapter(
            taught, texts, scores, encoder, strength(asset), settings, work, folder
        )

    base = Encoder.base(settings.embedder, settings.compute)
    facts = {ADAPTER: adapter(ADAPTER, base, node_texts(nodes))}
    tuned = measured[EMBEDDER].model
    if settings.refit.models == "all":
        tuned = work.model / EMBEDDER
        facts[EMBEDDER] = refit_embedder(
            questions, texts, teacher, strength(EMBEDDER), settings, work, tuned
        )
    over = Encoder.tuned(tuned, settings.embedder, settings.compute)
    facts[STACKED] = adapter(STACKED, over, texts)
    named = {f"{part}/{name}": value for part in facts for name, value in facts[part].items()}
    return {"refitted": ", ".join(facts), **named}
