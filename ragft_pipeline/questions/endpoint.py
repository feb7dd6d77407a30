"""Language models behind an OpenAI-compatible server: hosted, Ollama, vLLM, ChatGLM, Baichuan."""

from __future__ import annotations

import asyncio
import contextvars
import os
import re
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from ragft_pipeline.errors import RagftError, TransientError, redacted
from ragft_pipeline.models.language_model import Reply
from ragft_pipeline.settings import EndpointSettings

if TYPE_CHECKING:
    import ssl

    from llama_index.core.llms import LLM

    from ragft_pipeline.models.language_model import Chat

LONGEST_WAIT = 120.0  # seconds between two attempts, whatever Retry-After says
_PROBE = "Write one short question about tea."
_CLIENT_ERROR = re.compile(r"HTTP 4(?!08|29)\d\d")
_REFUSED = Reply("", 0, 0)  # told from a server's own empty answer by identity
_Result = TypeVar("_Result")


class EndpointModel:
    """An OpenAI-compatible server: concurrent, rate-limited, retried with back-off."""

    def __init__(self, settings: EndpointSettings, purpose: str = "questions") -> None:
        self._settings = settings
        self._purpose = purpose
        self._pace = _Pace(settings.requests_per_minute)  # one for all calls of `ask`
        self.last_error = ""

    def ask(self, prompts: Sequence[str | Chat], seeds: Sequence[int]) -> list[Reply | None]:
        """Answer the prompts, some at a time.

        A prompt is what a user says, or a whole chat.

        A prompt that the server refuses (too long, a filter) gets an empty reply: that is final.
        Where none gets an answer, one more request tells a server that answers nobody (a wrong
        key, URL or model, an outage) from prompts it cannot take.

        Raises RagftError in the first case, a TransientError unless the server refused.
        """
        replies = _run(self._ask_all(prompts, seeds, self._settings.max_retries))
        if prompts and not _any_answer(replies):
            reason = self.last_error
            if not _any_answer(_run(self._ask_all([_PROBE], [0], max_retries=0))):
                passing = not _CLIENT_ERROR.fullmatch(reason)
                raise (TransientError if passing else RagftError)(
                    f"{self._purpose}: {redacted(self._settings.base_url or '')} answered none of "
                    f"{len(prompts)} requests ({reason}); "
                    f"check base_url, model and ${self._settings.api_key_env}"
                )
        return replies

    async def _ask_all(
        self, prompts: Sequence[str | Chat], seeds: Sequence[int], max_retries: int
    ) -> list[Reply | None]:
        import openai

        gate = asyncio.Semaphore(self._settings.concurrency)
        async with openai.DefaultAsyncHttpxClient(verify=_tls()) as http:
            llm = open_llm(self._settings, async_http_client=http)

            async def one(prompt: str | Chat, seed: int) -> Reply | None:
                async with gate:
                    return await self._ask_one(llm, prompt, seed, max_retries)

            return list(await asyncio.gather(*map(one, prompts, seeds)))

    async def _ask_one(
        self, llm: LLM, prompt: str | Chat, seed: int, max_retries: int
    ) -> Reply | None:
        import openai
        from llama_index.core.llms import ChatMessage

        said = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        messages = [ChatMessage(**message) for message in said]
        for attempt in range(max_retries + 1):
            await self._pace.turn()
            retry_after = ""
            try:
                # the client's own time-out starts again with every byte: this one does not
                answer = llm.achat(messages, seed=seed)
                return _read(await asyncio.wait_for(answer, self._settings.timeout_seconds))
            except openai.APIStatusError as error:
                self.last_error = f"HTTP {error.status_code}"
                if error.status_code in (400, 413, 422):
                    return _REFUSED
                if error.status_code not in (408, 409, 425, 429) and error.status_code < 500:
                    return None
                retry_after = error.response.headers.get("retry-after", "")
            except Exception as error:
                # a lost connection, a time-out, or anything at all in place of the API's JSON
                self.last_error = type(error).__name__
            if attempt < max_retries:
                await asyncio.sleep(wait_before_retry(retry_after, attempt))
        return None


def open_llm(settings: EndpointSettings, **kwargs: Any) -> LLM:
    """Return the LlamaIndex LLM of an endpoint; the key comes from the environment only."""
    from llama_index.llms.openai_like import OpenAILike

    # never empty: the client would then send $OPENAI_API_KEY, whatever server this is
    key = os.environ.get(settings.api_key_env, "").strip() or "none"
    return OpenAILike(
        model=settings.model,
        api_base=settings.base_url,
        api_key=key,
        is_chat_model=True,
        max_retries=0,  # retried by EndpointModel, where a Retry-After can be honoured
        timeout=settings.timeout_seconds,
        temperature=0.3,
        max_tokens=1024,
        **kwargs,
    )


def _any_answer(replies: Sequence[Reply | None]) -> bool:
    return any(reply is not None and reply is not _REFUSED for reply in replies)


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine to its end; on a thread of its own where a loop runs here (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, work).result()


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context()  # reads every certificate: once is enough


class _Pace:
    """Spaces requests evenly, so that no minute holds more than it may; 0 is no limit."""

    def __init__(self, requests_per_minute: int) -> None:
        self._gap = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until one more request may start."""
        now = time.monotonic()
        start = max(now, self._next)
        self._next = start + self._gap
        await asyncio.sleep(start - now)


def _read(response: Any) -> Reply:
    usage = getattr(response.raw, "usage", None)
    # JSON can carry half a surrogate pair, which no UTF-8 file can
    text = (response.message.content or "").encode("utf-8", "ignore").decode("utf-8")
    return Reply(text, _tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens"))


def _tokens(usage: Any, name: str) -> int:
    value = getattr(usage, name, 0)
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0


def wait_before_retry(retry_after: str, attempt: int) -> float:
    """Return the seconds to wait: the server's Retry-After (seconds or a date), or a back-off."""
    back_off = min(30.0, 0.25 * 2**attempt)
    try:
        asked = float(retry_after)
    except ValueError:
        try:
            until = parsedate_to_datetime(retry_after)
        except (TypeError, ValueError, OverflowError):
            return back_off
        if until.tzinfo is None:
            until = until.replace(tzinfo=timezone.utc)
        asked = (until - datetime.now(timezone.utc)).total_seconds()
    return min(LONGEST_WAIT, asked) if asked >= 0 else back_off
