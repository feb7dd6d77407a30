"""Base and tuned answering model on the same questions and the same retrieved passages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ragft_pipeline import schemas
from ragft_pipeline.answering.guard import guard_texts
from ragft_pipeline.answering.measures import citation_precision, score
from ragft_pipeline.answering.prompts import (
    PROMPT_VERSION,
    Answer,
    closed_book_chat,
    passages_chat,
    read_answer,
)
from ragft_pipeline.answering.questions import Question
from ragft_pipeline.answering.support import Judge, supported_shares
from ragft_pipeline.digests import digest_of, text_key
from ragft_pipeline.models.language_model import Chat, Reply
from ragft_pipeline.questions.replies import cached_replies
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

BASE, TUNED = "base", "tuned"
PASSAGES, CLOSED_BOOK = "passages", "closed_book"
GUARD, HELD_OUT = "general text", "held-out documents"
LOSSES_VERSION = 1  # raise it when some text would get another loss
_LOSSES = pa.schema([("row_key", pa.string()), ("loss", pa.float64())])


class Answerer(Protocol):
    """A model that answers chats."""

    @property
    def identity(self) -> str:
        """A digest of what decides its answers."""
        ...

    def answer(self, chats: Sequence[Chat]) -> list[Reply]:
        """Answer each chat."""
        ...

    def losses(self, texts: Sequence[str]) -> np.ndarray | None:
        """Return the mean loss of a token of each text; None where nobody can tell."""
        ...


@dataclass(frozen=True)
class HeldOutText:
    """A text of a held-out document, for perplexity."""

    text_id: str
    text: str
    cluster: str


def evaluate_answers(
    questions: Sequence[Question],
    texts: Sequence[HeldOutText],
    open_models: dict[str, Callable[[], Answerer]],
    judge: Judge,
    settings: Settings,
    work: Workspace,
) -> tuple[pa.Table, dict[str, Any]]:
    """Return LLM_EVAL rows of every model, and facts; LLM_LOSSES go into the artifact.

    A model is opened when something is asked of it that no artifact has, one at a time.

    Args:
        open_models: by system name.
    """
    rows, losses, facts = [], [], {}
    for system, opener in open_models.items():
        model = opener()
        asked = [(q, mode) for mode, some in _modes(questions, settings).items() for q in some]
        replies, rate = _answers(model, [_chat(*one, settings) for one in asked], settings, work)
        if rate:
            facts[f"{system}_tokens_a_second"] = round(rate, 1)
        rows += [_row(q, system, mode, r, settings) for (q, mode), r in zip(asked, replies)]
        work.progress(f"llm_eval: {system}: {len(asked)} answers")
        losses += _losses(model, system, texts, work)
        del model
    _add_faithfulness(rows, questions, judge, settings, work)
    table = pa.Table.from_pylist(losses, schema=schemas.LLM_LOSSES.schema)
    pq.write_table(table, work.folder / f"{schemas.LLM_LOSSES.name}.parquet", compression="zstd")
    return pa.Table.from_pylist(rows, schema=schemas.LLM_EVAL.schema), facts


def _modes(questions: Sequence[Question], settings: Settings) -> dict[str, Sequence[Question]]:
    return {PASSAGES: questions, CLOSED_BOOK: questions[: settings.llm_eval.closed_book]}


def _chat(question: Question, mode: str, settings: Settings) -> Chat:
    if mode == CLOSED_BOOK:
        return closed_book_chat(question.text)
    return passages_chat(question.text, question.passages, settings.chats.decline)


def _answers(
    model: Answerer, chats: Sequence[Chat], settings: Settings, work: Workspace
) -> tuple[list[Reply], float]:
    """Return the replies, and the tokens written a second (0 where all were known)."""
    limits = settings.llm_eval
    written, seconds = 0, 0.0

    def ask(batch: Sequence[Chat]) -> list[Reply]:
        nonlocal written, seconds
        start = time.perf_counter()
        replies = model.answer(batch)
        seconds += time.perf_counter() - start
        written += sum(reply.completion_tokens for reply in replies)
        return replies

    keys = [digest_of(chat) for chat in chats]
    row_settings = digest_of(model.identity, limits.max_new_tokens, PROMPT_VERSION)
    asked = dict(zip(keys, chats))
    known = cached_replies(work, "llm_answers", row_settings, asked, ask, 4 * limits.batch_size)
    return [known[key] for key in keys], written / seconds if seconds else 0.0


def _row(
    question: Question, system: str, mode: str, reply: Reply, settings: Settings
) -> dict[str, Any]:
    answer = read_answer(reply.text, settings.chats.decline)
    given = mode == PASSAGES
    f1, exact = score(answer, question.references, not given or bool(question.relevant))
    return {
        "question_id": question.question_id,
        "question": question.text,
        "question_set": question.question_set,
        "system": system,
        "mode": mode,
        "cluster": question.cluster,
        "held_out": question.held_out,
        "sources": list(question.sources),
        "reference": question.references[0],
        "answer": reply.text,
        "passages": list(question.passage_ids) if given else [],
        "relevant": list(question.relevant) if given else [],
        "cited": list(answer.cited),
        "declined": answer.declined,
        "token_f1": f1,
        "exact_match": exact,
        "citation_precision": citation_precision(answer, question.relevant)
        if given and question.relevant
        else None,
        "faithfulness": None,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
    }


def _add_faithfulness(
    rows: Sequence[dict[str, Any]],
    questions: Sequence[Question],
    judge: Judge,
    settings: Settings,
    work: Workspace,
) -> None:
    """Fill in the share of supported sentences of the answers that did not decline."""
    passages = {question.question_id: question.passages for question in questions}
    read = [(row, read_answer(row["answer"], settings.chats.decline)) for row in rows]
    answered = [(row, a) for row, a in read if row["mode"] == PASSAGES and not a.declined]
    claims = [_with_texts(answer, passages[row["question_id"]]) for row, answer in answered]
    for (row, _), share in zip(answered, supported_shares(claims, judge, work)):
        row["faithfulness"] = share


def _with_texts(answer: Answer, passages: Sequence[str]) -> list[tuple[str, list[str]]]:
    return [
        (sentence, [passages[n - 1] for n in numbers if 1 <= n <= len(passages)])
        for sentence, numbers in answer.claims
    ]


def _losses(
    model: Answerer, system: str, texts: Sequence[HeldOutText], work: Workspace
) -> list[dict[str, Any]]:
    general = [
        HeldOutText(f"general-{place}", text, f"general-{place}")
        for place, text in enumerate(guard_texts("reporting"))
    ]
    rows = []
    for name, part in ((GUARD, general), (HELD_OUT, texts)):
        known = _known_losses(model, [one.text for one in part], work)
        rows += [
            {
                "text_id": one.text_id,
                "text_set": name,
                "system": system,
                "cluster": one.cluster,
                "loss": known.get(text_key(one.text), math.nan),
            }
            for one in part
        ]
    return rows


def _known_losses(model: Answerer, texts: Sequence[str], work: Workspace) -> dict[str, float]:
    """Return the losses of texts by their row keys, of a model that tells them."""

    def lose(unknown: Sequence[str]) -> pa.Table:
        found = model.losses(unknown)
        if found is None:
            return _LOSSES.empty_table()
        return pa.table([[text_key(text) for text in unknown], found], schema=_LOSSES)

    cache = work.rows("llm_losses", digest_of(model.identity, LOSSES_VERSION), _LOSSES)
    rows = cache.complete(texts, text_key, lose, batch_size=64)
    return dict(zip(rows.column("row_key").to_pylist(), rows.column("loss").to_pylist()))
