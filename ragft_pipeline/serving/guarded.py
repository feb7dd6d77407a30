"""What the services have in common: who may ask, how much, and how a fault is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ragft_pipeline.errors import RagftError, one_line
from ragft_pipeline.retrieval.metadata_filters import FilterError
from ragft_pipeline.serving.limits import OnlyWith, SameOrigin, SmallBodies, refusal
from ragft_pipeline.serving.pages import page_with_headers

LOOPBACK = ("127.0.0.1", "localhost")
_OPEN = ("/", "/health", "/openapi.json")  # what takes no token


def guarded_app(
    title: str,
    page: Path,
    running: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    most_bytes: int,
    seconds: float,
    token: str = "",
    hosts: Sequence[str] = LOOPBACK,
) -> FastAPI:
    """Return a service with nothing in it but its page, for no other website.

    Args:
        page: a file of one script and one style, answered at `/`.
        running: what is open while it runs.
        most_bytes, seconds: of a request's body, and in which it must have come.
        token: the bearer token that all but the page takes; nothing for none.
        hosts: names it answers to (`*`: any). On the loopback only its own, so that no website can
            reach it under a name that it made point here.
    """
    # no /docs: FastAPI's own page loads scripts from elsewhere; /openapi.json says the same
    app = FastAPI(
        title=title,
        version=version("ragft-pipeline"),
        lifespan=running,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(SmallBodies, most=most_bytes, seconds=seconds)
    if token:
        app.add_middleware(OnlyWith, token=token, open_paths=_OPEN)
    app.add_middleware(SameOrigin)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_exception_handler(RequestValidationError, _explain)
    app.add_exception_handler(RagftError, _conflict)
    app.add_exception_handler(FilterError, _unfit)
    text, headers = page_with_headers(page)

    @app.get("/", include_in_schema=False)
    async def own_page() -> HTMLResponse:
        return HTMLResponse(text, headers=headers)

    return app


def words(given: str) -> str:
    """Return a question as it was given, if it is one; else it is refused."""
    if not given.strip():
        raise HTTPException(422, "question: must not be empty")
    if any("\ud800" <= character <= "\udfff" for character in given):
        raise HTTPException(422, "question: half a surrogate pair is no character")
    return given


async def _explain(request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with a request in one line a fault, without what was sent."""
    assert isinstance(error, RequestValidationError)
    faults = [
        ": ".join([*(str(part) for part in fault["loc"][1:]), str(fault["msg"]).lower()])
        for fault in error.errors()
    ]
    return refusal(422, "; ".join(faults))


async def _unfit(request: Request, error: Exception) -> JSONResponse:
    """Say in one line what a filter does not ask."""
    return refusal(422, one_line(error))


async def _conflict(request: Request, error: Exception) -> JSONResponse:
    """Say in one line what stands against a request."""
    return refusal(409, one_line(error))
