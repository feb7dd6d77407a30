"""POST /feedback: whether a passage that was served answers the question, by whoever asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.votes import Vote, Votes
from ragft_pipeline.serving.answers import Asked
from ragft_pipeline.serving.following import Follower

_Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]


class Feedback(BaseModel):
    """A vote: what was asked, the passage, and the bundle that answered with it.

    `vote_id` is the sender's own name for the vote: sent again under it, it counts once.
    """

    model_config = ConfigDict(extra="forbid")
    question: str
    node_id: _Name
    vote: Literal["up", "down"]
    bundle: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    vote_id: Annotated[str, Field(max_length=64, pattern=r"^[\w-]*$")] = ""


def add_feedback(
    app: FastAPI, follower: Follower, votes: Votes, checked: Callable[[Asked], Asked]
) -> None:
    """Add the endpoint to a service.

    Args:
        checked: refuses a question that could not have been searched for.
    """

    @app.post("/feedback", status_code=201)
    def feedback(given: Feedback) -> dict[str, str]:
        """Keep a vote on a passage; it is on the disk when this answers."""
        asked = checked(Asked(question=given.question))
        searcher = follower.now.searcher
        bundle = searcher.bundle
        if given.bundle != bundle.digest and not (bundle.folder.parent / given.bundle).is_dir():
            raise HTTPException(422, "bundle: there is none of that name")
        if given.bundle == bundle.digest and not searcher.has(given.node_id):
            raise HTTPException(422, "node_id: the bundle has no such passage")
        up = given.vote == "up"
        vote = Vote(asked.question.strip(), given.node_id, up, given.bundle, given.vote_id)
        try:
            votes.add(vote)
        except (RagftError, OSError):
            raise HTTPException(507, "there is no room for more votes") from None
        return {"status": "kept"}
