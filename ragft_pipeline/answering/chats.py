"""Chats to learn from, in the RAFT shape: a question, its source among distractors, the answer.

A share of them lacks the source; the right answer is then to decline (Zhang et al. 2024, RAFT).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.answering.answers import AskedNode, SourceAnswer, answer_pairs
from ragft_pipeline.answering.asking import ask_otherwise
from ragft_pipeline.answering.distractors import Library, find_distractors
from ragft_pipeline.answering.focus import cut_to_sentences
from ragft_pipeline.answering.prompts import passages_chat
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.language_model import Chat
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.settings import ChatSettings, Mix, Settings
from ragft_pipeline.store import Workspace

CHATS_FILE = "chats.jsonl"
_MOST_MIXED_CHARACTERS = 100_000
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Chats:
    """The chats of a split (CHATS), and how many pairs their nodes did not answer."""

    table: pa.Table
    unanswerable: int


def make_chats(
    pairs: pa.Table, nodes: pa.Table, library: Library, train: bool, encoder: Encoder,
    settings: Settings, work: Workspace,
) -> Chats:  # fmt: skip
    """Make a split's chats, and write them as JSON lines into the artifact too.

    Args:
        pairs, nodes: QA_PAIRS and NODES of the split.
        train: whether it is the split that is trained on: it gets `chats.mixes`, and the others at
            most a quarter of its chats.
    """
    chats = settings.chats
    part = 1 if train else 4
    asked = asked_nodes(pairs, nodes)[: -(-chats.max_chats // part)]
    answers = answer_pairs(asked, chats.teacher, work)
    rephrased = chats.rephrased // part
    known = ask_otherwise(
        [one for one in asked if one.question_id in answers],
        answers, rephrased, settings.questions.model, settings.compute, work,
    )  # fmt: skip
    near = find_distractors(
        [(one, answers[one.question_id].text) for one in known],
        library, chats.passages, encoder, work,
    )  # fmt: skip
    shown = [_shown(one, near[one.question_id], chats) for one in known]
    texts = cut_to_sentences(
        [one.question for one in known],
        [[library.texts[name] for name in names] for names, _ in shown],
        chats.sentences, encoder, work, [answers[one.question_id].text for one in known],
    )  # fmt: skip
    rows = [
        _row(one, answers[one.question_id], *placed, read, chats.decline)
        for one, placed, read in zip(known, shown, texts)
    ]
    if train:
        rows += [row for mix in chats.mixes for row in mixed_chats(mix)]
    table = pa.Table.from_pylist(rows, schema=schemas.CHATS.schema)
    write_chats(table, work.folder / CHATS_FILE)
    return Chats(table, len(asked) - len(known))


def asked_nodes(pairs: pa.Table, nodes: pa.Table) -> list[AskedNode]:
    """Return QA pairs with their source nodes, in the order of the questions' hashes."""
    source = {row["node_id"]: row for row in nodes.to_pylist()}
    found = []
    for row in pairs.sort_by("question_id").to_pylist():
        node = source[row["node_id"]]
        start = row["answer_start"] - node["start_char"]
        length = row["answer_end"] - row["answer_start"]
        if not 0 <= start < len(node["text"]):  # the text stands in several documents
            start, length = 0, len(node["text"])
        named = {name: row[name] for name in ("question_id", "question", "kind", "cluster")}
        found.append(
            AskedNode(
                **named, node_id=row["node_id"], doc_key=row["doc_key"], text=node["text"],
                start=start, end=start + length,
            )
        )  # fmt: skip
    return found


def _shown(asked: AskedNode, near: Sequence[str], settings: ChatSettings) -> tuple[list[str], int]:
    """Return the node ids that a chat shows, and the source's number, 0 where it is left out.

    What is drawn depends on the question alone. Distractors stand in the retriever's order, and
    the source more often before them than after: so it is where the model will serve.
    """
    draw = random.Random(f"{asked.question_id}:passages")
    if draw.random() < settings.missing and near:
        return list(near), 0
    shown = list(near)[: settings.passages - 1]
    ranks = range(1, len(shown) + 2)
    number = draw.choices(ranks, [1 / rank for rank in ranks])[0]
    shown.insert(number - 1, asked.node_id)
    return shown, number


def _row(
    asked: AskedNode, answer: SourceAnswer, shown: list[str], number: int, texts: list[str],
    decline: str,
) -> dict[str, Any]:  # fmt: skip
    reply = answer.citing(number) if number else decline
    messages = passages_chat(asked.question, texts, decline)
    return {
        "chat_id": digest_of(asked.question_id, shown, reply)[:32],
        "kind": asked.kind,
        "question_id": asked.question_id,
        "node_id": asked.node_id,
        "doc_key": asked.doc_key,
        "cluster": asked.cluster,
        "passages": shown,
        "source": number,
        "messages": [*messages, {"role": "assistant", "content": reply}],
    }


def mixed_chats(mix: Mix) -> list[dict[str, Any]]:
    """Return the chats of a file of the user's, one JSON object with `messages` a line.

    Raises RagftError where a line is none; the user's own work should not be skipped in silence.
    """
    rows: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(Path(mix.path).read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            messages = _messages(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise RagftError(
                f"chats.mixes: {mix.path} line {number} is no chat that ends with the "
                f"assistant's answer ({type(error).__name__})"
            ) from None
        chat_id = digest_of(messages)[:32]
        rows[chat_id] = {
            "chat_id": chat_id, "kind": "mixed", "question_id": "", "node_id": "",
            "doc_key": "", "cluster": "", "passages": [], "source": 0, "messages": messages,
        }  # fmt: skip
    return [rows[chat_id] for chat_id in sorted(rows)][: mix.max_chats]


def _messages(raw: dict[str, Any]) -> Chat:
    messages = [
        {name: message[name] for name in ("role", "content")} for message in raw["messages"]
    ]
    texts = [message["content"] for message in messages]
    well_formed = all(isinstance(text, str) for text in texts) and all(
        message["role"] in _ROLES for message in messages
    )
    if not well_formed or len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise ValueError("not a chat")
    if sum(len(text) for text in texts) > _MOST_MIXED_CHARACTERS:
        raise ValueError("too long")
    return messages


def write_chats(chats: pa.Table, path: Path) -> None:
    """Write chats as the JSON lines that fine-tuning services take."""
    with path.open("w", encoding="utf-8") as file:
        for line in chat_lines(chats):
            file.write(line)


def chat_lines(chats: pa.Table) -> Iterator[str]:
    """Return one JSON line a chat, in the order of their ids."""
    for messages in chats.sort_by("chat_id").column("messages").to_pylist():
        yield json.dumps({"messages": messages}, ensure_ascii=False) + "\n"
