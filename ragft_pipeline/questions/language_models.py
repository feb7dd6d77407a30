"""Language models that write questions, behind LlamaIndex's LLM interface.

The embedded SmolLM2 runs in batches on this machine; anything else is an OpenAI-compatible
endpoint (a hosted service, Ollama, vLLM, a server of ChatGLM or Baichuan).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings import ComputeSettings, LLMGenerator
from ragft_pipeline.weights import Weights, resolve_weights

if TYPE_CHECKING:
    from llama_index.core.llms import LLM

MAX_NEW_TOKENS = 96


@dataclass(frozen=True)
class Reply:
    """A model's answer to one prompt, with what it cost."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class QuestionModel(Protocol):
    """What the generator needs of a language model."""

    def ask(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Reply | None]:
        """Answer each prompt; None where the model failed for good on that one."""
        ...


def open_model(settings: LLMGenerator, compute: ComputeSettings) -> QuestionModel:
    """Return the model that the settings name."""
    if settings.base_url is None:
        return EmbeddedModel(resolve_weights(settings.model), settings.batch_size, compute)
    return EndpointModel(settings)


class EmbeddedModel:
    """SmolLM2-Instruct from the packaged GGUF, greedy, in length-sorted batches."""

    def __init__(self, weights: Weights, batch_size: int, compute: ComputeSettings) -> None:
        self._weights = weights
        self._batch_size = batch_size
        self._compute = compute

    def ask(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Reply | None]:
        """Answer the prompts greedily: the seeds have no say."""
        import torch

        tokenizer, model = _load_embedded(self._weights, self._compute)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        replies: list[Reply | None] = [None] * len(prompts)
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            chats = [[{"role": "user", "content": prompts[i]}] for i in batch]
            texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
            inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            with torch.inference_mode():
                output = model.generate(
                    **inputs.to(model.device),
                    max_new_tokens=MAX_NEW_TOKENS,
                    do_sample=False,
                    pad_token_id=tokenizer.pad_token_id,
                )
            new = output[:, inputs["input_ids"].shape[1] :]
            for i, ids, mask in zip(batch, new, inputs["attention_mask"]):
                used = int((ids != tokenizer.pad_token_id).sum())
                text = tokenizer.decode(ids, skip_special_tokens=True)
                replies[i] = Reply(text, int(mask.sum()), used)
        return replies


@lru_cache(maxsize=1)
def _load_embedded(weights: Weights, compute: ComputeSettings) -> tuple[Any, Any]:
    from ragft_pipeline.retrieval.encoder import pick_device, pick_dtype, quiet_transformers

    quiet_transformers()
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    assert weights.file is not None
    folder, file = str(weights.folder), weights.file.name
    device = pick_device(compute)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=file,
        quantization_config=GgufConfig(dequantize=True),
        dtype=pick_dtype(compute, device),
    )
    return tokenizer, model.to(device).eval()


class EndpointModel:
    """An OpenAI-compatible server: concurrent, rate-limited, retried with back-off."""

    def __init__(self, settings: LLMGenerator) -> None:
        self._settings = settings
        self.last_error = ""

    def llm(self) -> LLM:
        """Return the LlamaIndex LLM of the endpoint; the key comes from the environment only."""
        from llama_index.core.rate_limiter import TokenBucketRateLimiter
        from llama_index.llms.openai_like import OpenAILike

        pace = self._settings.requests_per_minute
        return OpenAILike(
            model=self._settings.model,
            api_base=self._settings.base_url,
            api_key=os.environ.get(self._settings.api_key_env, "none"),
            is_chat_model=True,
            max_retries=0,  # retried below, where a Retry-After can be honoured
            timeout=self._settings.timeout_seconds,
            temperature=0.3,
            max_tokens=1024,
            reuse_client=False,
            rate_limiter=TokenBucketRateLimiter(requests_per_minute=pace) if pace else None,
        )

    def ask(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Reply | None]:
        """Answer the prompts, some at a time.

        Raises RagftError where the server refuses every one of them (a wrong key, URL or model).
        """
        replies = asyncio.run(self._ask_all(prompts, seeds))
        if prompts and not any(replies):
            raise RagftError(
                f"questions: {self._settings.base_url} answered none of {len(prompts)} requests "
                f"({self.last_error}); check base_url, model and ${self._settings.api_key_env}"
            )
        return replies

    async def _ask_all(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Reply | None]:
        gate = asyncio.Semaphore(self._settings.concurrency)
        llm = self.llm()

        async def one(prompt: str, seed: int) -> Reply | None:
            async with gate:
                return await self._ask_one(llm, prompt, seed)

        return list(await asyncio.gather(*map(one, prompts, seeds)))

    async def _ask_one(self, llm: LLM, prompt: str, seed: int) -> Reply | None:
        import openai
        from llama_index.core.llms import ChatMessage

        for attempt in range(self._settings.max_retries + 1):
            try:
                response = await llm.achat([ChatMessage(role="user", content=prompt)], seed=seed)
            except openai.APIStatusError as error:
                self.last_error = f"HTTP {error.status_code}"
                if error.status_code not in (408, 409, 425, 429) and error.status_code < 500:
                    return None
                wait = error.response.headers.get("retry-after", "")
                await asyncio.sleep(float(wait) if wait.isdigit() else _back_off(attempt))
            except (
                openai.APIConnectionError,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
            ) as error:
                # a lost connection, a time-out, or an answer that is not the API's
                self.last_error = type(error).__name__
                await asyncio.sleep(_back_off(attempt))
            else:
                usage = getattr(response.raw, "usage", None)
                return Reply(
                    response.message.content or "",
                    int(getattr(usage, "prompt_tokens", 0) or 0),
                    int(getattr(usage, "completion_tokens", 0) or 0),
                )
        return None


def _back_off(attempt: int) -> float:
    return float(min(30.0, 0.25 * 2**attempt))
