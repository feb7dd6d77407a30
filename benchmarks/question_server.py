"""An OpenAI-compatible server on the loopback whose answers depend on the prompt alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from unittest.mock import patch

from ragft_pipeline_tests.questions.openai_server import OpenAIServer, Request, Step, say, serving


def questions_about(prompt: str) -> str:
    """Return two questions made of words of the prompt's text: always the same ones."""
    words = re.findall(r"[a-z]{5,}", prompt.split("\n\nAsk ", maxsplit=1)[0].lower()) or ["nothing"]
    picked = words[:: max(1, len(words) // 6)]
    return f"What of the {' and '.join(picked[:3])}?\nWhy {' '.join(picked[3:6])} at all?"


@contextmanager
def answering() -> Iterator[OpenAIServer]:
    """Run a server that answers every prompt; its `requests` are the calls it was paid for."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request
    with serving() as server:
        enter = server.enter

        def answer(request: Request) -> Step:
            enter(request)
            return say(questions_about(request.prompt))

        # a client that was killed is no news
        quiet = patch.object(ThreadingHTTPServer, "handle_error", lambda *_: None)
        with patch.object(server, "enter", answer), quiet:
            yield server
