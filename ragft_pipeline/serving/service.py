"""The HTTP service: searches with what is served, and shows it beside the untuned hybrid.

Every answer comes whole from one searcher, taken once, and says which bundle and which entry of
the history that was. Searching is work for processors, so it runs in a few threads and never on
the event loop; who finds these and the queue before them full is told to come back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ragft_pipeline.errors import RagftError, one_line
from ragft_pipeline.questions.votes import Votes
from ragft_pipeline.serving.answers import Answer, Asked, Comparison, answer, comparison
from ragft_pipeline.serving.bundle import describe
from ragft_pipeline.serving.feedback import add_feedback
from ragft_pipeline.serving.following import Follower
from ragft_pipeline.serving.limits import OnlyWith, SameOrigin, SmallBodies, Turns, refusal
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.pages import page_with_headers
from ragft_pipeline.settings import ServeSettings

LOOPBACK = ("127.0.0.1", "localhost")
_OPEN = ("/", "/health", "/openapi.json")  # what takes no token
_PAGE = Path(__file__).with_name("page.html")
_CHARACTER = 12  # bytes of one character in JSON, at most: two escaped surrogates


def create_app(
    champion: Champion,
    settings: ServeSettings,
    token: str = "",
    hosts: Sequence[str] = LOOPBACK,
    votes: Votes | None = None,
) -> FastAPI:
    """Return the service.

    Args:
        champion: what is served; the service alone uses it.
        settings: limits on questions, and on how many are searched and wait.
        token: the bearer token that searching takes; nothing for none.
        hosts: names the service answers to (`*`: any). On the loopback only its own, so that no
            website can reach it under a name that it made point here.
        votes: where votes on passages are kept; without it none are taken.
    """
    follower = Follower(champion)
    turns = Turns(settings.max_concurrent, settings.max_waiting)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        follower.start()
        yield
        follower.stop()
        turns.close()

    # no /docs: FastAPI's own page loads scripts from elsewhere; /openapi.json says the same
    app = FastAPI(
        title="ragft",
        version=version("ragft-pipeline"),
        lifespan=running,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(
        SmallBodies,
        most=settings.max_question_chars * _CHARACTER + 1024,
        seconds=settings.request_seconds,
    )
    if token:
        app.add_middleware(OnlyWith, token=token, open_paths=_OPEN)
    app.add_middleware(SameOrigin)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_exception_handler(RequestValidationError, explain)
    app.add_exception_handler(RagftError, conflict)
    page, headers = page_with_headers(_PAGE)

    def checked(asked: Asked) -> Asked:
        length = len(asked.question)
        if length > settings.max_question_chars:
            detail = f"question: {length} characters, at most {settings.max_question_chars}"
            raise HTTPException(422, detail)
        if not asked.question.strip():
            raise HTTPException(422, "question: must not be empty")
        if any("\ud800" <= character <= "\udfff" for character in asked.question):
            raise HTTPException(422, "question: half a surrogate pair is no character")
        return asked

    if votes is not None:
        add_feedback(app, follower, votes, checked)

    @app.get("/search")
    async def search(request: Request, asked: Annotated[Asked, Query()]) -> Answer:
        """Answer a question with the passages that the champion finds."""
        question = checked(asked)
        return await turns.run(request, lambda: answer(follower.now, question))

    @app.post("/search")
    async def search_posted(request: Request, asked: Asked) -> Answer:
        """Answer a question with the passages that the champion finds."""
        question = checked(asked)
        return await turns.run(request, lambda: answer(follower.now, question))

    @app.get("/compare")
    async def compare(request: Request, asked: Annotated[Asked, Query()]) -> Comparison:
        """Answer a question with the untuned hybrid and with the champion."""
        question = checked(asked)
        return await turns.run(request, lambda: comparison(follower.now, question))

    @app.get("/champion")
    async def served() -> dict[str, Any]:
        """Say what is served and why; `problem` is why a newer decision is not followed."""
        now = follower.now
        entry = {
            "entry": now.entry.number,
            **{name: getattr(now.entry, name) for name in ("event", "why", "who", "when")},
        }
        return {**describe(now.searcher.bundle), **entry, "problem": follower.problem}

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the service answers; `stale` where a newer decision cannot be followed."""
        return {"status": "stale" if follower.problem else "ok"}

    @app.get("/", include_in_schema=False)
    async def page_of_both() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    return app


async def explain(request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with a request in one line a fault, without what was sent."""
    assert isinstance(error, RequestValidationError)
    faults = [
        ": ".join([*(str(part) for part in fault["loc"][1:]), str(fault["msg"]).lower()])
        for fault in error.errors()
    ]
    return refusal(422, "; ".join(faults))


async def conflict(request: Request, error: Exception) -> JSONResponse:
    """Say in one line what stands against a request."""
    return refusal(409, one_line(error))
