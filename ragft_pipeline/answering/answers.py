"""The answer to a QA pair from its source node: a quoted sentence, or what a teacher wrote.

An answer depends on the question and its node alone, so no other document makes it stale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragft_pipeline.answering.prompts import quoted
from ragft_pipeline.corpus.sentences import sentence_spans
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import TransientError
from ragft_pipeline.questions.endpoint import EndpointModel
from ragft_pipeline.questions.filters import grounding, word_count
from ragft_pipeline.questions.llm import spoken
from ragft_pipeline.questions.replies import cached_replies
from ragft_pipeline.settings import ServedModel
from ragft_pipeline.store import Workspace

ANSWER_VERSION = 2  # raise it when some pair would be answered otherwise
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
    model = EndpointModel(teacher, "chats.teacher")
    replies = cached_replies(
        work,
        "chat_answers",
        digest_of(ANSWER_VERSION, teacher.digest()),
        {_key(one): _TEACH.format(text=one.text, question=one.question) for one in asked},
        lambda prompts: model.ask(prompts, [0] * len(prompts)),
        16 * teacher.concurrency,
        family="*_chats",
    )
    if failures := work.counts.get("llm_failures"):
        raise TransientError(
            f"chats.teacher: {failures} questions got no answer; what was answered is kept: "
            "run again"
        )
    taught = {one.question_id: _answer_in(replies[_key(one)].text) for one in asked}
    return {name: SourceAnswer(text, False) for name, text in taught.items() if text}


def _answer_in(reply: str) -> str:
    text = " ".join(spoken(reply).split())
    return text[:_MOST_CHARACTERS] if text.strip(" .\"'").upper() != "NONE" else ""


def _key(asked: AskedNode) -> str:
    return digest_of(asked.question, asked.text)
