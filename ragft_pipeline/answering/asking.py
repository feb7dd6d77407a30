"""How a chat asks for a claim: in a model's words, or in some of the claim's own.

Asked as it stands, a claim would teach a model to repeat the question.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from ragft_pipeline.answering.answers import AskedNode, SourceAnswer
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import TransientError
from ragft_pipeline.models.language_model import Chat, LanguageModel, Reply
from ragft_pipeline.models.weights import require_language_model, resolve_weights
from ragft_pipeline.questions.endpoint import EndpointModel
from ragft_pipeline.questions.filters import grounding
from ragft_pipeline.questions.llm import spoken
from ragft_pipeline.questions.replies import cached_replies
from ragft_pipeline.retrieval.lexical import lexical_terms
from ragft_pipeline.settings import ComputeSettings, LLMGenerator
from ragft_pipeline.store import Workspace

ASKING_VERSION = 1  # raise it when some claim would be asked otherwise
CLAIM, REPHRASED = "claim", "rephrased"
_TASK = "Write a short question, in other words, that the statement answers."
_SHOWN = (
    (
        "The kettle must be switched off at the wall before it is filled.",
        "Do I have to unplug the kettle before I fill it?",
    ),
    (
        "Orders above 50 euros are sent free of charge within two days.",
        "how much do I have to spend so delivery costs nothing?",
    ),
    (
        "Only the night porter may open the side gate after eleven.",
        "who lets me in through the side gate late at night?",
    ),
)
_TOKENS, _BATCH = 24, 16
_MIN_GROUNDING = 0.4
_SHARE_OF_TERMS, _MOST_TERMS = 0.5, 6


def ask_otherwise(
    asked: Sequence[AskedNode],
    answers: dict[str, SourceAnswer],
    rephrased: int,
    generator: LLMGenerator | None,
    compute: ComputeSettings,
    work: Workspace,
) -> list[AskedNode]:
    """Return the questions as chats ask them; what is no claim stays as it is.

    Args:
        answers: by question id.
        rephrased: how many claims, by their hashes, the generator words; its bad ones and all
            other claims are asked in some of their own words.
    """
    claims = [one for one in asked if one.kind == CLAIM]
    chosen = sorted(claims, key=lambda one: one.question_id)[: rephrased if generator else 0]
    worded: dict[str, str] = {}
    if chosen and generator is not None:
        statements = {one.question_id: answers[one.question_id].text for one in chosen}
        worded = _worded(statements, generator, compute, work)
    return [_as_asked(one, worded.get(one.question_id, "")) for one in asked]


def _as_asked(one: AskedNode, worded: str) -> AskedNode:
    if one.kind != CLAIM:
        return one
    if worded:
        return replace(one, question=worded, kind=REPHRASED)
    return replace(one, question=in_fewer_words(one))


def in_fewer_words(claim: AskedNode) -> str:
    """Return a claim as a person might search for it: some of its words, in any order."""
    draw = random.Random(f"{claim.question_id}:words")
    terms = list(dict.fromkeys(lexical_terms(claim.question)))
    number = min(len(terms), max(2, min(_MOST_TERMS, round(_SHARE_OF_TERMS * len(terms)))))
    kept = draw.sample(terms, number)
    if draw.random() < 0.5:
        kept.sort(key=terms.index)
    return " ".join(kept) + draw.choice(("", "?"))


def _worded(
    statements: dict[str, str], generator: LLMGenerator, compute: ComputeSettings, work: Workspace
) -> dict[str, str]:
    """Return good questions by id; a model is asked about a statement once."""
    weights = "" if generator.base_url else resolve_weights(generator.model).digest
    replies = cached_replies(
        work,
        "rephrased",
        digest_of(ASKING_VERSION, generator.model, generator.base_url, weights),
        {digest_of(text): _chat(text) for text in statements.values()},
        lambda chats: _replies(chats, generator, compute),
        64,
        family="*_chats",
    )
    if failures := work.counts.get("llm_failures"):
        raise TransientError(f"chats: {failures} claims got no question; run again")
    found = {name: _question(replies[digest_of(text)].text) for name, text in statements.items()}
    return {name: text for name, text in found.items() if _good(text, statements[name])}


def _good(question: str, statement: str) -> bool:
    return question.endswith(("?", "？")) and grounding(question, statement) >= _MIN_GROUNDING


def _question(reply: str) -> str:
    return " ".join(spoken(reply).strip().split("\n")[0].split())


def _chat(statement: str) -> Chat:
    chat = [{"role": "system", "content": _TASK}]
    for shown, question in _SHOWN:
        chat += [{"role": "user", "content": shown}, {"role": "assistant", "content": question}]
    return [*chat, {"role": "user", "content": statement}]


def _replies(
    chats: Sequence[Chat], generator: LLMGenerator, compute: ComputeSettings
) -> Sequence[Reply | None]:
    if generator.base_url is not None:
        return EndpointModel(generator, "chats").ask(chats, [0] * len(chats))
    weights = require_language_model(resolve_weights(generator.model))
    return LanguageModel.load(weights, compute).answer(chats, _TOKENS, _BATCH)
