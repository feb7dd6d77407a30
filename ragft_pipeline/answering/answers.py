"""The answer to a QA pair from its source node: a quoted sentence, or what a teacher wrote.

An answer depends on the question and its node alone, so no other document makes it stale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from ragft_pipeline.answering.prompts import quoted
from ragft_pipeline.errors import TransientError
from ragft_pipeline.questions.endpoint import EndpointModel
from ragft_pipeline.questions.filters import grounding, word_count
from ragft_pipeline.questions.llm import spoken
from ragft_pipeline.questions.sentences import sentence_spans
from ragft_pipeline.settings import ServedModel
from ragft_pipeline.store import Workspace, digest_of

ANSWER_VERSION = 1  # raise it when some pair would be answered otherwise
_ANSWERS = pa.schema(
    [
        ("row_key", pa.string()),
        ("answer", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
    ]
)
_TEACH = """\
{text}

Question: {question}

Answer in one or two short sentences, with facts from the text above only and in the language of \
the question. If the text does not answer it, reply with the one word NONE."""
_MIN_GROUNDING = 0.5
_MIN_WORDS, _MAX_WORDS = 4, 60
_MOST_CHARACTERS = 2000


@dataclass(frozen=True)
class AskedNode:
    """A QA pair with its source node; `start` and `end` mark the answer in the node's text."""

    question_id: str
    question: str
    kind: str
    node_id: str
    doc_key: str
    cluster: str
    text: str
    start: int
    end: int

    @property
    def whole(self) -> bool:
        """Whether the whole node is marked, so that the sentence that answers is not known."""
        return self.start <= 0 and self.end >= len(self.text)


@dataclass(frozen=True)
class SourceAnswer:
    """An answer, and whether it is a sentence of the source."""

    text: str
    verbatim: bool

    def citing(self, number: int) -> str:
        """Return it with its source's number."""
        return quoted(self.text, number) if self.verbatim else f"{self.text} [{number}]"


def answer_pairs(
    asked: Sequence[AskedNode], teacher: ServedModel | None, work: Workspace
) -> dict[str, SourceAnswer]:
    """Return the answers by question id; a question that its node does not answer gets none.

    Raises TransientError where the teacher failed on some; what it answered is kept.
    """
    if teacher is None:
        found = {one.question_id: answering_sentence(one) for one in asked}
        return {name: SourceAnswer(text, True) for name, text in found.items() if text}
    return _taught(asked, teacher, work)


def answering_sentence(asked: AskedNode) -> str:
    """Return the sentence of the node that holds the claim, or shares most words with the question.

    Empty where no sentence has half of the question's words.
    """
    if not asked.whole:
        return " ".join(asked.text[asked.start : asked.end].split())
    sentences = [asked.text[start:end].strip() for start, end in sentence_spans(asked.text)]
    fitting = [
        sentence
        for sentence in sentences
        if _MIN_WORDS <= word_count(sentence) <= _MAX_WORDS and " | " not in sentence
    ]
    shares = [grounding(asked.question, sentence) for sentence in fitting]
    best = max(range(len(fitting)), key=shares.__getitem__, default=None)
    if best is None or shares[best] < _MIN_GROUNDING:
        return ""
    return " ".join(fitting[best].lstrip("#*->• ").split())


def _taught(
    asked: Sequence[AskedNode], teacher: ServedModel, work: Workspace
) -> dict[str, SourceAnswer]:
    row_settings = digest_of(ANSWER_VERSION, teacher.digest())
    cache = work.rows("chat_answers", row_settings, _ANSWERS, family="*_chats")
    model = EndpointModel(teacher, "chats.teacher")

    def ask(batch: Sequence[AskedNode]) -> pa.Table:
        prompts = [_TEACH.format(text=one.text, question=one.question) for one in batch]
        rows = []
        for one, reply in zip(batch, model.ask(prompts, [0] * len(prompts))):
            work.count("llm_calls", 1)
            if reply is None:
                work.count("llm_failures", 1)
                continue
            work.count("prompt_tokens", reply.prompt_tokens)
            work.count("completion_tokens", reply.completion_tokens)
            text = " ".join(spoken(reply.text).split())
            known = text if text.strip(" .\"'").upper() != "NONE" else ""
            rows.append(
                {
                    "row_key": _key(one),
                    "answer": known[:_MOST_CHARACTERS],
                    "prompt_tokens": reply.prompt_tokens,
                    "completion_tokens": reply.completion_tokens,
                }
            )
        return pa.Table.from_pylist(rows, schema=_ANSWERS)

    rows = cache.complete(asked, _key, ask, batch_size=16 * teacher.concurrency)
    if failures := work.counts.get("llm_failures"):
        raise TransientError(
            f"chats.teacher: {failures} questions got no answer; what was answered is kept: "
            "run again"
        )
    answers = dict(zip(rows.column("row_key").to_pylist(), rows.column("answer").to_pylist()))
    return {
        one.question_id: SourceAnswer(answers[_key(one)], False)
        for one in asked
        if answers[_key(one)]
    }


def _key(asked: AskedNode) -> str:
    return digest_of(asked.question, asked.text)
