"""Passages cut to the sentences nearest to a question, so that a small model reads little.

Nearness is the base embedder's. The sentences keep their order; a passage of few is left whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragft_pipeline.corpus.sentences import sentence_spans
from ragft_pipeline.questions.filters import word_count
from ragft_pipeline.retrieval.encoder import Encoder, Kind
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.store import Workspace

FOCUS_VERSION = 2  # raise it when some passage would be cut otherwise
_MIN_WORDS = 3


def cut_to_sentences(
    questions: Sequence[str],
    passages: Sequence[Sequence[str]],
    number: int,
    encoder: Encoder,
    work: Workspace | None = None,
    kept: Sequence[str] = (),
) -> list[list[str]]:
    """Return each question's passages, cut to at most `number` sentences; 0 leaves them whole.

    Args:
        passages: those of each question.
        work: for vectors that artifacts hold; without it all are computed.
        kept: for each question a sentence that stays where a passage holds it.
    """
    if not number:
        return [list(texts) for texts in passages]
    sentences = {text: _sentences(text) for texts in passages for text in texts}
    distinct = sorted({sentence for found in sentences.values() for sentence in found})
    place = {sentence: row for row, sentence in enumerate(distinct)}
    vectors = _encoded(distinct, "document", encoder, work)
    asked = _encoded(list(questions), "query", encoder, work)
    wanted = kept or [""] * len(questions)
    cut = []
    for query, texts, keep in zip(asked, passages, wanted):
        cut.append([_cut(sentences[t], t, query, vectors, place, number, keep) for t in texts])
    return cut


def _sentences(text: str) -> list[str]:
    found = (" ".join(text[start:end].split()) for start, end in sentence_spans(text))
    return [sentence for sentence in found if word_count(sentence) >= _MIN_WORDS]


def _cut(
    sentences: list[str],
    text: str,
    query: np.ndarray,
    vectors: np.ndarray,
    place: dict[str, int],
    number: int,
    keep: str,
) -> str:
    if len(sentences) <= number:
        return text
    scores = vectors[[place[sentence] for sentence in sentences]] @ query
    if keep:
        scores = scores + 2.0 * np.array([keep in sentence for sentence in sentences])
    best = np.sort(np.argsort(-scores, kind="stable")[:number])
    return " ".join(sentences[row] for row in best)


def _encoded(texts: list[str], kind: Kind, encoder: Encoder, work: Workspace | None) -> np.ndarray:
    if work is None or not texts:
        return encoder.encode(texts, kind)
    _, vectors = cached_vectors(work, encoder, dict(zip(map(str, range(len(texts))), texts)), kind)
    return vectors
