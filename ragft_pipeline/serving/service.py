"""The HTTP service: searches with what is served, and shows it beside the untuned hybrid.

Every answer comes whole from one searcher, taken once, and says which bundle and which entry of
the history that was. Searching is work for processors, so it runs in a few threads and never on
the event loop; who finds these and the queue before them full is told to come back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request

from ragft_pipeline.questions.votes import Votes
from ragft_pipeline.serving.answers import (
    Answer,
    Asked,
    AskedWithFilters,
    Comparison,
    answer,
    comparison,
)
from ragft_pipeline.serving.bundle import describe
from ragft_pipeline.serving.feedback import add_feedback
from ragft_pipeline.serving.following import Follower
from ragft_pipeline.serving.guarded import LOOPBACK, guarded_app, words
from ragft_pipeline.serving.limits import Turns
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.settings import ServeSettings

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
        hosts: names the service answers to (`*`: any).
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

    app = guarded_app(
        "ragft", _PAGE, running, settings.max_question_chars * _CHARACTER + 1024,
        settings.request_seconds, token, hosts,
    )  # fmt: skip

    def checked(asked: Asked) -> Asked:
        length = len(asked.question)
        if length > settings.max_question_chars:
            detail = f"question: {length} characters, at most {settings.max_question_chars}"
            raise HTTPException(422, detail)
        words(asked.question)
        return asked

    if votes is not None:
        add_feedback(app, follower, votes, checked)

    @app.get("/search")
    async def search(request: Request, asked: Annotated[Asked, Query()]) -> Answer:
        """Answer a question with the passages that the champion finds."""
        question = checked(asked)
        return await turns.run(request, lambda: answer(follower.now, question))

    @app.post("/search")
    async def search_posted(request: Request, asked: AskedWithFilters) -> Answer:
        """Answer a question with the passages that the champion finds, of those that match."""
        question = checked(asked)
        return await turns.run(request, lambda: answer(follower.now, question, asked.filters))

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

    return app
