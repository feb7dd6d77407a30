"""How much the teacher trusts BM25 against the base embedder: chosen per corpus, never trained on.

People's questions say it best; synthetic val questions that are cut out of their node would
give BM25 all the weight, so of those only the others may say it, and test documents never do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.folds import agreed
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.metrics import DEPTH, PRIMARY, nearest_sufficient, score_rankings
from ragft_pipeline.retrieval.question_sets import PEOPLE, questions_that_choose
from ragft_pipeline.retrieval.search import MIDDLE, min_max, mix, rows_at_once, top_k
from ragft_pipeline.retrieval.terms import cached_terms
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.data import TrainingTables

_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_ENOUGH = 20  # fewer questions choose nothing


@dataclass(frozen=True)
class TeacherWeight:
    """The weight of BM25, and what chose it: a question set's name, or `settings`, or `nothing`."""

    bm25_weight: float
    chosen_on: str
    questions: int = 0


def choose_teacher_weight(
    tables: TrainingTables,
    gold: pa.Table,
    statistics: TermStatistics,
    settings: Settings,
    work: Workspace,
) -> TeacherWeight:
    """Return the weight nearest to one half that the choosing questions cannot tell from the best.

    It is one half unless they say the same whichever fold of them is left out.

    Args:
        gold: GOLD_QUESTIONS; of these, questions about train and val documents choose.
        statistics: of the corpus, for BM25.
    """
    if settings.teacher.bm25_weight is not None:
        return TeacherWeight(settings.teacher.bm25_weight, "settings")
    nodes = pa.concat_tables([tables.train_nodes, tables.val_nodes])
    texts = node_texts(nodes)
    column = {node_id: place for place, node_id in enumerate(texts)}
    questions = questions_that_choose(gold, tables.val_pairs, nodes, column, _ENOUGH)
    if not len(questions):
        return TeacherWeight(1 - MIDDLE, "nothing")
    encoder = Encoder.base(settings.embedder, settings.compute)
    _, queries = cached_vectors(work, encoder, questions.by_id(), "query")
    _, vectors = cached_vectors(work, encoder, texts, "document")
    terms = cached_terms(work, list(texts.values()), statistics.language)
    lexical = LexicalIndex(list(texts.values()), statistics, terms=terms)
    results = [np.empty(len(questions)) for _ in _WEIGHTS]
    block = rows_at_once(len(texts), len(questions))
    for start in range(0, len(questions), block):
        part = slice(start, start + block)
        dense = min_max(queries[part] @ vectors.T)
        words = min_max(lexical.scores(questions.texts[part]))
        for weight, found in zip(_WEIGHTS, results):
            ranking = top_k(mix(dense, words, 1 - weight), DEPTH)
            found[part] = score_rankings(ranking, questions.relevant[part])[PRIMARY]

    def choose(rows: np.ndarray) -> float:
        return nearest_sufficient(_WEIGHTS, [found[rows] for found in results], 1 - MIDDLE)

    if questions.name == PEOPLE:
        chosen = agreed(choose, questions.clusters, 1 - MIDDLE)
    else:
        chosen = choose(np.ones(len(questions), bool))
    return TeacherWeight(chosen, questions.name, len(questions))
