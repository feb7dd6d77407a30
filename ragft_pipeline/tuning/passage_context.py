"""Whether passages are read below their titles and headings: chosen for each corpus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ragft_pipeline.corpus.nodes import node_texts, with_context
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.folds import agreed
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import (
    DEPTH,
    PRIMARY,
    mean_of,
    score_rankings,
    smallest_sufficient,
)
from ragft_pipeline.retrieval.question_sets import PEOPLE, QuestionSet, questions_that_choose
from ragft_pipeline.retrieval.search import MIDDLE, fuse, rows_at_once, top_k
from ragft_pipeline.retrieval.terms import cached_terms
from ragft_pipeline.retrieval.token_rows import vectors_with_tokens
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

_ENOUGH = 20  # fewer questions choose nothing
_ON, _OFF = "on", "off"


@dataclass(frozen=True)
class ContextChoice:
    """`on` or `off`, what chose it, and nDCG@10 of the untuned hybrid with and without."""

    context: str
    chosen_on: str
    questions: int = 0
    with_context: float = 0.0
    without: float = 0.0


def choose_context(
    nodes: pa.Table, gold: pa.Table, val_pairs: pa.Table, settings: Settings, work: Workspace
) -> ContextChoice:
    """Return whether to read passages with context: yes, unless questions say that it harms.

    It helps on four of five corpora that we know; where it does not, every chunk of a document has
    the same long title. So it is taken back where the choosing questions tell the plain passages
    from the best by more than a standard error, whichever fold of them is left out, and where
    nothing is in a passage's context.

    Args:
        nodes: NODES of train and val.
        gold: GOLD_QUESTIONS; of these, questions about train and val documents choose.
        val_pairs: QA_PAIRS of val; those in their own words choose where people's are too few.
    """
    if settings.passages.context != "auto":
        return ContextChoice(settings.passages.context, "settings")
    plain, read = node_texts(nodes), node_texts(with_context(nodes))
    if plain == read:
        return ContextChoice(_OFF, "nothing stands above the passages")
    column = {node_id: place for place, node_id in enumerate(plain)}
    questions = questions_that_choose(gold, val_pairs, nodes, column, _ENOUGH)
    if not len(questions):
        return ContextChoice(_ON, "nothing")
    found = [_hybrid_scores(texts, questions, settings, work) for texts in (read, plain)]

    def choose(rows: np.ndarray) -> str:
        return (_ON, _OFF)[smallest_sufficient((0.0, 1.0), [one[rows] for one in found])]

    if questions.name == PEOPLE:
        best = agreed(choose, questions.clusters, _ON)
    else:
        best = choose(np.ones(len(questions), bool))
    return ContextChoice(best, questions.name, len(questions), *(mean_of(one) for one in found))


def _hybrid_scores(
    texts: dict[str, str], questions: QuestionSet, settings: Settings, work: Workspace
) -> np.ndarray:
    encoder = Encoder.base(settings.embedder, settings.compute)
    vectors = vectors_with_tokens(work, encoder, texts, settings.late_interaction.bits)
    _, queries = cached_vectors(work, encoder, questions.by_id(), "query")
    passages, language = list(texts.values()), settings.passages.language
    terms = cached_terms(work, passages, language)
    lexical = LexicalIndex(passages, language=language, terms=terms)
    scores = np.empty(len(questions))
    rows = rows_at_once(len(texts), len(questions))
    for start in range(0, len(questions), rows):
        part = slice(start, start + rows)
        words = lexical.scores(questions.texts[part])
        ranking = top_k(fuse(queries[part] @ vectors.T, words, MIDDLE), DEPTH)
        scores[part] = score_rankings(ranking, questions.relevant[part])[PRIMARY]
    return scores
