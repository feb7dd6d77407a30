"""The embedded language model: SmolLM2-135M-Instruct from its package, in batches.

It is small: most of what it writes is filtered out. It needs no key and no network, and shows what
a configured endpoint will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ragft_pipeline.models.language_model import LanguageModel, Reply
from ragft_pipeline.models.weights import Weights
from ragft_pipeline.settings import ComputeSettings, LLMGenerator

EMBEDDED_VERSION = 2  # raise it when some prompt would be answered otherwise
MAX_NEW_TOKENS = 48
_OPENERS = ("1. What", "1. How", "1. When", "1. Which", "1. Who", "1. Why", "1. Where")


class EmbeddedModel:
    """Answers greedily, in length-sorted batches, each answer begun with a question word.

    A model this small repeats itself and drifts without a beginning and a repetition penalty.
    """

    def __init__(self, weights: Weights, settings: LLMGenerator, compute: ComputeSettings) -> None:
        self._weights = weights
        self._settings = settings
        self._compute = compute

    def ask(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Reply | None]:
        """Answer the prompts; the seed picks the word an answer begins with."""
        model = LanguageModel.load(self._weights, self._compute)
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
        texts = model.tokenizer.apply_chat_template(
            chats, tokenize=False, add_generation_prompt=True
        )
        openers = [_OPENERS[seed % len(_OPENERS)] for seed in seeds]
        texts = [text + opener for text, opener in zip(texts, openers)]
        replies = model.complete(
            texts, MAX_NEW_TOKENS, self._settings.batch_size, 1.1, self._settings.questions_per_node
        )
        return [replace(reply, text=opener + reply.text) for opener, reply in zip(openers, replies)]
