"""The page on which people judge: on this machine alone, and for no other website."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field

from ragft_pipeline.labelling.session import Session
from ragft_pipeline.questions.log import LONGEST
from ragft_pipeline.serving.guarded import guarded_app, words

_PAGE = Path(__file__).with_name("page.html")
_MOST_BYTES, _SECONDS = LONGEST * 12 + 1024, 10
Who = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")]
Name = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Node = Annotated[str, Field(min_length=1, max_length=64)]
Words = Annotated[str, Field(min_length=1, max_length=LONGEST)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    who: Who


class Said(_Body):
    """What a person says of a passage: 2 answers, 1 partly, 0 no."""

    question_id: Name
    node_id: Node
    grade: Literal[0, 1, 2]
    marked: tuple[int, int] | None = None


class Ended(_Body):
    """How a person leaves a question."""

    question_id: Name
    how: Literal["done", "skip", "nowhere"]


class Typed(_Body):
    """A question that a person types."""

    question: Words


def create_label_app(session: Session) -> FastAPI:
    """Return the service of a session; it starts and ends it."""

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        session.start()
        yield
        session.close()

    app = guarded_app("ragft label", _PAGE, running, _MOST_BYTES, _SECONDS)

    @app.get("/next")
    def next_one(who: Annotated[Who, Query()]) -> dict[str, Any]:
        """Return the question to judge next; without a `question_id` where none waits."""
        name = session.next(who)
        return session.shown(name, who) if name is not None else {}

    @app.get("/question")
    def question(
        question_id: Annotated[Name, Query()], who: Annotated[Who, Query()]
    ) -> dict[str, Any]:
        """Return a question as it was judged so far."""
        return session.shown(question_id, who)

    @app.get("/find")
    def find(
        question_id: Annotated[Name, Query()],
        who: Annotated[Who, Query()],
        asked: Annotated[Words, Query()],
    ) -> dict[str, Any]:
        """Search by hand for passages that answer a question."""
        return session.find(question_id, who, words(asked))

    @app.get("/document")
    def document(node_id: Annotated[Node, Query()]) -> dict[str, Any]:
        """Return a passage with its document around it."""
        return asdict(session.around(node_id))

    @app.get("/progress")
    def how_far() -> dict[str, Any]:
        """Say how many questions were judged, and about how many are needed."""
        return session.progress()

    @app.post("/judge", status_code=201)
    def judge(said: Said) -> dict[str, str]:
        """Keep a judgement; it is on the disk when this answers."""
        session.judge(said.who, said.question_id, said.node_id, said.grade, said.marked)
        return {"status": "kept"}

    @app.post("/end", status_code=201)
    def end(ended: Ended) -> dict[str, str]:
        """Keep how a person leaves a question; the file is up to date when this answers."""
        session.end(ended.who, ended.question_id, ended.how)
        return {"status": "kept"}

    @app.post("/ask", status_code=201)
    def ask(typed: Typed) -> dict[str, Any]:
        """Take a question that a person types, and show its passages."""
        return session.shown(session.ask(words(typed.question)), typed.who)

    return app
