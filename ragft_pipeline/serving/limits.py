"""What the service refuses: too many at once, bodies too large, and who has no token."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypeVar

from fastapi import Depends, HTTPException
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")
_BEARER = HTTPBearer(auto_error=False)


class Turns:
    """Lets so many searches run at once and so many wait; turns further ones away."""

    def __init__(self, concurrent: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(concurrent, thread_name_prefix="search")
        self._most = concurrent + waiting
        self._inside = 0  # only the event loop's thread counts

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, when its turn has come; 503 where the queue is full."""
        if self._inside >= self._most:
            raise HTTPException(503, "too many questions at once", {"Retry-After": "1"})
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._inside -= 1

    def close(self) -> None:
        """Let running searches end, and drop the waiting ones."""
        self._pool.shutdown(cancel_futures=True)


class SmallBodies:
    """Refuses a body whose length is not given, or larger than any question, before reading it."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            length = headers.get(b"content-length", b"0")
            if b"transfer-encoding" in headers or not length.isdigit():
                return await refusal(411, "send the body's length")(scope, receive, send)
            if len(length) > 12 or int(length) > self._most:
                detail = f"the body is longer than {self._most} bytes"
                return await refusal(413, detail)(scope, receive, send)
        return await self._app(scope, receive, send)


def only_with(token: str) -> Callable[..., None]:
    """Return a dependency that raises 401 for a request without this bearer token."""
    expected = token.encode()

    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        sent = b"" if given is None else given.credentials.encode("latin-1")
        if not secrets.compare_digest(sent, expected):
            raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})

    return check


def refusal(status: int, detail: str) -> JSONResponse:
    """Return an answer that says in one line why there is none."""
    return JSONResponse({"detail": detail}, status)
