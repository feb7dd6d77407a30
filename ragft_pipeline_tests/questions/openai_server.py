"""A real HTTP server on the loopback that speaks the chat completions API, and fails on demand."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal


@dataclass(frozen=True)
class Step:
    """What the server does with one request."""

    how: Literal["send", "hang", "drip", "close"] = "send"
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


HANG = Step("hang")  # takes the request and never answers
DRIP = Step("drip")  # sends a byte now and then, without end
CLOSE = Step("close")  # drops the connection without a word


def say(content: str | None, usage: object = None) -> Step:
    """Answer with a chat completion of this content."""
    return send_json(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "scripted",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": content},
                }
            ],
            "usage": usage or {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        }
    )


def send_json(value: object, status: int = 200) -> Step:
    """Answer with any JSON."""
    return Step(status=status, body=json.dumps(value).encode())


def fail(status: int, **headers: str) -> Step:
    """Answer with an error status; `retry_after` becomes Retry-After."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Step(status=status, body=b'{"error": {"message": "scripted"}}', headers=named)


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    path: str
    authorization: str
    prompt: str
    body: dict[str, Any]
    at: float


@dataclass
class OpenAIServer:
    """The server's script and its record.

    A request whose prompt holds a marker of `script` takes that marker's next step; every other
    request gets `default`, `think_seconds` later.
    """

    script: dict[str, Iterator[Step]] = field(default_factory=dict)
    default: Step = field(default_factory=lambda: say("What does the node say?"))
    key: str | None = None
    think_seconds: float = 0.0
    requests: list[Request] = field(default_factory=list)
    peak: int = 0
    url: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, marker: str, steps: Iterable[Step]) -> None:
        """Script the requests whose prompt holds the marker."""
        self.script[marker] = iter(steps)

    def asked(self, marker: str) -> int:
        """Count the requests whose prompt holds the marker."""
        return sum(marker in request.prompt for request in list(self.requests))

    def wait_for(self, marker: str, seconds: float = 15.0) -> None:
        """Wait until a request whose prompt holds the marker has arrived."""
        end = time.monotonic() + seconds
        while not self.asked(marker):
            assert time.monotonic() < end, f"no request about {marker!r} within {seconds} s"
            time.sleep(0.02)

    def enter(self, request: Request) -> Step:
        """Record a request and say what to do with it."""
        with self._lock:
            self.requests.append(request)
            self._open += 1
            self.peak = max(self.peak, self._open)
            if self.key is not None and request.authorization != f"Bearer {self.key}":
                message = f"Incorrect API key provided: {request.authorization}"  # as OpenAI does
                return send_json({"error": {"message": message}}, status=401)
            steps = [steps for marker, steps in self.script.items() if marker in request.prompt]
            return next(steps[0], self.default) if steps else self.default

    def leave(self) -> None:
        """Count a request as done."""
        with self._lock:
            self._open -= 1


def _handler(server: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][-1]["content"]
            key = self.headers.get("Authorization", "")
            step = server.enter(Request(self.path, key, prompt, body, time.monotonic()))
            try:
                server.stopping.wait(server.think_seconds)
            finally:
                server.leave()  # before the answer: what comes next is the client's doing
            try:
                self._take(step)
            except OSError:  # the client gave up
                self.close_connection = True

        def _take(self, step: Step) -> None:
            if step.how == "send":
                self._head(step, len(step.body))
                self.wfile.write(step.body)
                return
            self.close_connection = True
            if step.how == "hang":
                server.stopping.wait(30)
            if step.how == "drip":
                self._head(step, 1_000_000)
                while not server.stopping.wait(0.05):
                    self.wfile.write(b" ")
                    self.wfile.flush()
            if step.how == "close":
                self.connection.shutdown(socket.SHUT_RDWR)

        def _head(self, step: Step, length: int) -> None:
            self.send_response(step.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(length))
            for name, value in step.headers:
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Stay quiet."""

    return Handler


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # the default of 5 turns simultaneous connections away


@contextmanager
def serving() -> Iterator[OpenAIServer]:
    """Run a server on a free port of 127.0.0.1 for as long as the block lasts."""
    server = OpenAIServer()
    http = _Http(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        http.shutdown()
        http.server_close()
        thread.join()
