"""How a question and its passages are put to a model, and how its answer is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ragft_pipeline.corpus.sentences import sentence_spans
from ragft_pipeline.models.language_model import Chat
from ragft_pipeline.questions.llm import spoken

PROMPT_VERSION = 1  # raise it when a chat would be worded otherwise
_FROM_PASSAGES = (
    "Answer from the numbered passages: quote the sentence that answers the question, then its "
    'passage\'s number, like "..." [1]. If no passage answers it, say: {decline}'
)
_CLOSED_BOOK = "Answer the question in one sentence."
_CITED = re.compile(r"\[\s*(\d{1,3}(?:\s*,\s*\d{1,3})*)\s*\]")
_QUOTES = re.compile(r"^[\s\"“”„«»'*_>-]+|[\s\"“”„«»'*_]+$")


def passages_chat(question: str, passages: Sequence[str], decline: str) -> Chat:
    """Return the messages that ask a question of numbered passages."""
    listed = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(passages, start=1))
    return [
        {"role": "system", "content": _FROM_PASSAGES.format(decline=decline)},
        {"role": "user", "content": f"{listed}\n\nQuestion: {question}"},
    ]


def closed_book_chat(question: str) -> Chat:
    """Return the messages that ask a question without any passage."""
    return [
        {"role": "system", "content": _CLOSED_BOOK},
        {"role": "user", "content": f"Question: {question}"},
    ]


def quoted(sentence: str, number: int) -> str:
    """Return an answer in the form the prompt asks for."""
    return f'"{" ".join(sentence.split())}" [{number}]'


@dataclass(frozen=True)
class Answer:
    """A model's answer as read.

    Attributes:
        text: without citations and quotation marks.
        claims: each sentence with the numbers of the passages it cites.
        declined: whether it says that no passage answers.
    """

    text: str
    claims: tuple[tuple[str, tuple[int, ...]], ...]
    declined: bool

    @property
    def cited(self) -> tuple[int, ...]:
        """The numbers of all passages cited, each once."""
        return tuple(sorted({number for _, numbers in self.claims for number in numbers}))


def read_answer(reply: str, decline: str) -> Answer:
    """Read a model's reply; a citation belongs to the sentences before it."""
    reply = spoken(reply).strip()
    claims: list[tuple[str, tuple[int, ...]]] = []
    start = 0
    for match in _CITED.finditer(reply):
        numbers = tuple(int(number) for number in re.findall(r"\d+", match.group(1)))
        sentences = _sentences(reply[start : match.start()])
        start = match.end()
        if sentences:
            claims += [(sentence, numbers) for sentence in sentences]
        elif claims:  # a second citation of the same sentence
            claims[-1] = (claims[-1][0], claims[-1][1] + numbers)
        else:  # a number in front of its sentence, or alone
            claims.append(("", numbers))
    claims += [(sentence, ()) for sentence in _sentences(reply[start:])]
    text = " ".join(sentence for sentence, _ in claims if sentence)
    declined = decline.rstrip(" .。").lower() in " ".join(reply.split()).lower()
    return Answer(text, tuple(claims), declined)


def _sentences(text: str) -> list[str]:
    plain = _QUOTES.sub("", text)
    spans = sentence_spans(plain)
    found = (_QUOTES.sub("", plain[start:end]) for start, end in spans)
    return [sentence for sentence in found if any(c.isalnum() for c in sentence)]
