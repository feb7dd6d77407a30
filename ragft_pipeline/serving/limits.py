"""What a service refuses: too many at once, bodies too large or late, strangers."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragft_pipeline.errors import RagftError, one_line

T = TypeVar("T")
_LOG = logging.getLogger("ragft")


class Turns:
    """Lets so many searches run at once and so many wait; turns further ones away."""

    def __init__(self, concurrent: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(concurrent, thread_name_prefix="search")
        self._most = concurrent + waiting
        self._inside = 0  # only the event loop's thread counts

    async def run(self, request: Request, work: Callable[[], T]) -> T:
        """Return what `work` returns, when its turn has come; 503 where the queue is full.

        Where the client goes before its turn, the turn is dropped; its place is free at once.
        """
        if self._inside >= self._most:
            raise HTTPException(503, "too many questions at once", {"Retry-After": "1"})
        self._inside += 1
        loop, search = asyncio.get_running_loop(), self._pool.submit(_told, work)
        search.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        return await _awaited(request, search)

    def _leave(self) -> None:
        self._inside -= 1

    def close(self) -> None:
        """Let running searches end, and drop the waiting ones."""
        self._pool.shutdown(cancel_futures=True)


def _told(work: Callable[[], T]) -> T:
    """Return what `work` returns; what nobody foresaw is logged in one line, and not passed on."""
    try:
        return work()
    except RagftError:
        raise
    except Exception as error:
        _LOG.error("a search failed: %s: %s", type(error).__name__, one_line(error))
        raise HTTPException(500, "the search failed; the log says why") from None


async def _awaited(request: Request, search: Future[T]) -> T:
    """Return what a search returns, and cancel it where nobody waits for it any more."""
    answer, gone = asyncio.wrap_future(search), asyncio.ensure_future(_gone(request))
    either: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(499, "the client has gone")
        return answer.result()
    finally:
        gone.cancel()
        answer.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class SmallBodies:
    """Refuses a body whose length is not given, larger than any question, or long in coming.

    Args:
        most: bytes.
        seconds: in which a body must have come as a whole.
    """

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit():
            return await refusal(411, "send the body's length")(scope, receive, send)
        if len(length) > 12 or int(length) > self._most:
            detail = f"the body is longer than {self._most} bytes"
            return await refusal(413, detail)(scope, receive, send)
        try:
            body = await asyncio.wait_for(_whole(receive), self._seconds)
        except asyncio.TimeoutError:
            late = refusal(408, f"the body did not come in {self._seconds:g} seconds")
            late.headers["Connection"] = "close"
            return await late(scope, receive, send)
        messages = [body]

        async def read() -> Message:
            return messages.pop() if messages else await receive()

        return await self._app(scope, read, send)


async def _whole(receive: Receive) -> Message:
    """Return the one message that a body is; or that the client has gone."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return {"type": "http.request", "body": body, "more_body": False}


class SameOrigin:
    """Refuses what a page of another website sends: nothing but GET may come from one.

    A browser says where a page is from (Origin, Sec-Fetch-Site); who says nothing is no browser.
    The host itself is checked before this.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers = dict(scope["headers"])
            origin = headers.get(b"origin")
            own = origin is None or origin.partition(b"://")[2] == headers.get(b"host")
            if not own or headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none"):
                refused = refusal(403, "a page of another website may not send this")
                return await refused(scope, receive, send)
        return await self._app(scope, receive, send)


class OnlyWith:
    """Refuses a request without a bearer token, before its body is read.

    Args:
        open_paths: what takes no token.
    """

    def __init__(self, app: ASGIApp, token: str, open_paths: Collection[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in self._open:
            scheme, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
            right = secrets.compare_digest(given.strip(), self._token)
            if scheme.lower() != b"bearer" or not right:
                refused = refusal(401, "a bearer token is needed")
                refused.headers["WWW-Authenticate"] = "Bearer"
                return await refused(scope, receive, send)
        return await self._app(scope, receive, send)


def refusal(status: int, detail: str) -> JSONResponse:
    """Return an answer that says in one line why there is none."""
    return JSONResponse({"detail": detail}, status)
