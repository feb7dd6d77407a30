"""Is a sentence supported by the passage it cites? Asked of a scorer of pairs, or of a judge.

What stands in the passage word for word is supported without asking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ragft_pipeline.answering.measures import answer_tokens
from ragft_pipeline.answering.prompts import read_answer
from ragft_pipeline.errors import TransientError
from ragft_pipeline.questions.endpoint import EndpointModel
from ragft_pipeline.questions.llm import spoken
from ragft_pipeline.retrieval.reranking import PairScorer, cached_pair_scores
from ragft_pipeline.settings import ServedModel
from ragft_pipeline.store import Workspace

Pair = tuple[str, str]
"""A sentence and a passage."""

_JUDGE = """\
Passage: {passage}

Statement: {sentence}

Does the passage alone show that the statement is true? Reply with one word, yes or no."""
_MOST_CALIBRATED = 60


class Judge(Protocol):
    """Says which sentences their passages support."""

    def supported(self, pairs: Sequence[Pair], work: Workspace) -> np.ndarray:
        """Return one bool a pair."""
        ...


@dataclass(frozen=True)
class ScoreJudge:
    """A scorer of pairs, above a score that tells true sentences of a passage from others' best.

    Attributes:
        accuracy: balanced, on the pairs that the threshold was set on.
    """

    scorer: PairScorer
    threshold: float
    accuracy: float

    @classmethod
    def calibrated(
        cls, scorer: PairScorer, chats: pa.Table, decline: str, work: Workspace
    ) -> ScoreJudge:
        """Set the threshold on val chats: answers with their sources, and with distractors."""
        true, false = known_pairs(chats, decline)
        if not true or not false:
            return cls(scorer, 0.0, 0.5)
        scores = cached_pair_scores(work, "support", scorer, [*true, *false])
        right, wrong = scores[: len(true)], scores[len(true) :]
        limits = np.unique(scores)
        balanced = [((right >= t).mean() + (wrong < t).mean()) / 2 for t in limits]
        best = int(np.argmax(balanced))
        return cls(scorer, float(limits[best]), float(balanced[best]))

    def supported(self, pairs: Sequence[Pair], work: Workspace) -> np.ndarray:
        """Return one bool a pair."""
        if not pairs:
            return np.zeros(0, bool)
        return cached_pair_scores(work, "support", self.scorer, pairs) >= self.threshold


def known_pairs(chats: pa.Table, decline: str) -> tuple[list[Pair], list[Pair]]:
    """Return (answer, source) pairs of CHATS, and as many with the nearest other passage."""
    true, false = [], []
    for row in chats.sort_by("chat_id").slice(0, _MOST_CALIBRATED).to_pylist():
        if not row["source"] or len(row["passages"]) < 2:
            continue
        shown, _ = passages_shown(row)
        answer = read_answer(row["messages"][-1]["content"], decline).text
        other = 1 if row["source"] != 1 else 2
        true.append((answer, shown[row["source"] - 1]))
        false.append((answer, shown[other - 1]))
    return true, false


def passages_shown(chat: Mapping[str, Any]) -> tuple[list[str], str]:
    """Return the passages and the question of a CHATS row, as its messages show them."""
    text, _, question = chat["messages"][-2]["content"].rpartition("\n\nQuestion: ")
    starts = [0]
    for place in range(2, len(chat["passages"]) + 1):
        starts.append(text.index(f"\n\n[{place}] ", starts[-1]) + 2)
    ends = [start - 2 for start in starts[1:]] + [len(text)]
    return [text[start:end].partition("] ")[2] for start, end in zip(starts, ends)], question


@dataclass(frozen=True)
class EndpointJudge:
    """A language model behind a server."""

    settings: ServedModel

    def supported(self, pairs: Sequence[Pair], work: Workspace) -> np.ndarray:
        """Return one bool a pair; TransientError where the judge failed on some."""
        prompts = [_JUDGE.format(sentence=sentence, passage=text) for sentence, text in pairs]
        replies = EndpointModel(self.settings, "llm_eval.judge").ask(prompts, [0] * len(prompts))
        if any(reply is None for reply in replies):
            raise TransientError("llm_eval.judge: some statements got no judgement: run again")
        said = [spoken(reply.text).strip().lower() for reply in replies if reply is not None]
        return np.array([text.startswith("yes") for text in said], bool)


def supported_shares(
    claims: Sequence[Sequence[tuple[str, Sequence[str]]]], judge: Judge, work: Workspace
) -> list[float]:
    """Return the share of each answer's sentences that a passage they cite supports.

    Args:
        claims: for each answer its sentences, each with the texts of the passages it cites. A
            sentence that cites none is not supported; an answer without a sentence scores 0.
    """
    asked = [
        (sentence, text)
        for answer in claims
        for sentence, texts in answer
        for text in texts
        if sentence and not _verbatim(sentence, text)
    ]
    unique = list(dict.fromkeys(asked))
    told = dict(zip(unique, judge.supported(unique, work).tolist()))

    def holds(sentence: str, texts: Sequence[str]) -> bool:
        return bool(sentence) and any(
            _verbatim(sentence, text) or told[sentence, text] for text in texts
        )

    shares = [[holds(*claim) for claim in answer if claim[0]] for answer in claims]
    return [sum(found) / len(found) if found else 0.0 for found in shares]


def _verbatim(sentence: str, text: str) -> bool:
    words = f" {' '.join(answer_tokens(sentence))} "
    return words.strip() != "" and words in f" {' '.join(answer_tokens(text))} "
