"""The questions an answering model is measured on, with retrieved passages and references.

People's are those about held-out documents alone: the tuned model learnt the other documents'
sentences by heart and is not trained again for a release, so on those it would be asked to recite
as well as to read. Test chats, of held-out documents too, show and decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.answering.focus import cut_to_sentences
from ragft_pipeline.answering.prompts import read_answer
from ragft_pipeline.answering.support import passages_shown
from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.evaluation.names import CANDIDATE
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.question_sets import SYNTHETIC, TOMORROW
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace


@dataclass(frozen=True)
class Question:
    """A question, the passages found for it, which of them answer (from 1), and right answers.

    `sources` are the nodes of the whole corpus that answer, shown or not.
    """

    question_id: str
    question_set: str
    text: str
    cluster: str
    held_out: bool
    sources: tuple[str, ...]
    references: tuple[str, ...]
    passage_ids: tuple[str, ...]
    passages: tuple[str, ...]
    relevant: tuple[int, ...]


def questions_to_answer(
    evaluated: pa.Table,
    gold: pa.Table,
    test_chats: pa.Table,
    nodes: pa.Table,
    text_of: Callable[[str], str],
    encoder: Encoder,
    settings: Settings,
    work: Workspace,
) -> list[Question]:
    """Return people's questions about held-out documents, where there are enough, and test chats.

    Passages are the first that the chosen retriever found in the whole corpus; of a test chat, its
    own.

    Args:
        evaluated: EVAL_ROWS.
        gold: GOLD_QUESTIONS.
        text_of: the text of a doc_key.
    """
    limits, found = settings.llm_eval, _retrieved(evaluated)
    people: list[Question] = []
    if len(found) >= settings.evaluation.min_gold:
        rows = {row["question_id"]: row for row in gold.to_pylist()}
        texts = node_texts(nodes)
        answered = [row for row in found if rows[row["question_id"]]["answers"]]
        asked = [
            _peoples(row, rows[row["question_id"]], texts, text_of, settings)
            for row in answered[: limits.max_questions]
        ]
        cut = cut_to_sentences(
            [one.text for one in asked], [one.passages for one in asked],
            settings.chats.sentences, encoder, work,
        )  # fmt: skip
        people = [replace(one, passages=tuple(shown)) for one, shown in zip(asked, cut)]
    chats = test_chats.sort_by("chat_id").to_pylist()
    most = limits.max_synthetic if people else max(limits.max_synthetic, limits.max_questions)
    return [*people, *(_of_chat(row, settings) for row in chats[:most])]


def _retrieved(rows: pa.Table) -> list[dict[str, Any]]:
    """Return EVAL_ROWS of what was chosen, over people's questions about held-out documents."""
    wanted = pc.and_(
        pc.equal(rows.column("question_set"), TOMORROW), pc.equal(rows.column("system"), CANDIDATE)
    )
    return list(rows.filter(wanted).sort_by("question_id").to_pylist())


def _peoples(
    row: dict[str, Any],
    gold: dict[str, Any],
    texts: dict[str, str],
    text_of: Callable[[str], str],
    settings: Settings,
) -> Question:
    shown = row["top_nodes"][: settings.chats.passages]
    return Question(
        row["question_id"],
        TOMORROW,
        row["question"],
        row["cluster"],
        True,
        tuple(row["relevant"]),
        tuple(
            " ".join(text_of(answer["doc_key"])[answer["start"] : answer["end"]].split())
            for answer in gold["answers"]
        ),
        tuple(shown),
        tuple(texts[node_id] for node_id in shown),
        tuple(n for n, node_id in enumerate(shown, start=1) if node_id in row["relevant"]),
    )


def _of_chat(chat: dict[str, Any], settings: Settings) -> Question:
    passages, question = passages_shown(chat)
    answer = read_answer(chat["messages"][-1]["content"], settings.chats.decline)
    return Question(
        chat["chat_id"],
        SYNTHETIC,
        question,
        chat["cluster"],
        True,
        (chat["node_id"],),
        (answer.text,),
        tuple(chat["passages"]),
        tuple(passages),
        (chat["source"],) if chat["source"] else (),
    )
