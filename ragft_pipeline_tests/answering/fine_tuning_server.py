"""A real HTTP server on the loopback that speaks the fine-tuning API, and fails on demand."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

Trouble = Callable[[str, str], "int | None"]
"""Says of a request (method, path) which status to fail with; 0 drops the connection unanswered."""


@dataclass
class FineTuningServer:
    """Files and jobs as a service keeps them, and how a job comes to its end.

    Attributes:
        statuses: what a job says, one a poll; the last one stays.
        refuse: asked before a request is carried out; `lose`: after, so its answer is lost.
        tells_metadata: whether a job comes back with what it was started with.
        oldest_first: how jobs are listed.
        why: what a failed job says.
    """

    statuses: list[str] = field(default_factory=lambda: ["queued", "running", "succeeded"])
    refuse: Trouble = lambda method, path: None
    lose: Trouble = lambda method, path: None
    key: str = "secret-key"
    tells_metadata: bool = True
    oldest_first: bool = False
    why: str = "the file has bad rows"
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    polls: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def upload(self, body: bytes) -> dict[str, Any]:
        name = re.search(rb'filename="([^"]+)"', body)
        assert name is not None
        file_id = f"file-{len(self.files) + 1}"
        self.files[file_id] = {
            "id": file_id, "object": "file", "bytes": len(body), "created_at": 1,
            "filename": name.group(1).decode(), "purpose": "fine-tune", "status": "processed",
            "content": body,
        }  # fmt: skip
        return self.shown(self.files[file_id])

    def start(self, asked: dict[str, Any]) -> dict[str, Any]:
        job_id = f"ftjob-{len(self.jobs) + 1}"
        self.jobs[job_id] = {
            "id": job_id, "object": "fine_tuning.job", "created_at": len(self.jobs),
            "model": asked["model"], "training_file": asked["training_file"],
            "validation_file": asked.get("validation_file"),
            "metadata": asked.get("metadata") if self.tells_metadata else None,
            "status": self.statuses[0], "fine_tuned_model": None, "trained_tokens": None,
            "error": None, "finished_at": None, "hyperparameters": {"n_epochs": 1},
            "organization_id": "org", "result_files": [], "seed": asked.get("seed", 0),
        }  # fmt: skip
        self.polls[job_id] = 0
        return self.jobs[job_id]

    def poll(self, job_id: str) -> dict[str, Any]:
        job = self.jobs[job_id]
        if job["status"] in ("succeeded", "failed", "cancelled"):
            return job
        self.polls[job_id] += 1
        job["status"] = self.statuses[min(self.polls[job_id], len(self.statuses) - 1)]
        if job["status"] == "succeeded":
            job |= {"fine_tuned_model": f"ft:{job['model']}:{job_id}", "trained_tokens": 1234}
        if job["status"] == "failed":
            job["error"] = {"code": "invalid", "message": self.why, "param": None}
        return job

    @staticmethod
    def shown(record: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in record.items() if name != "content"}

    def answer(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        if path == "/v1/files":
            if method == "POST":
                return self.upload(body)
            return self._listed(list(self.files.values()))
        if path == "/v1/fine_tuning/jobs":
            if method == "POST":
                return self.start(json.loads(body))
            jobs = list(self.jobs.values())
            return self._listed(jobs if self.oldest_first else jobs[::-1])
        if path == "/v1/chat/completions":
            return self.say(json.loads(body))
        return self.poll(path.rpartition("/")[2])

    def say(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer a chat: a tuned model quotes the first passage, its base talks."""
        text = asked["messages"][-1]["content"].partition("[1] ")[2].partition("\n")[0]
        content = f'"{text}" [1]' if asked["model"].startswith("ft:") else "It is warm."
        message = {"role": "assistant", "content": content}
        return {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": asked["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        }  # fmt: skip

    def _listed(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        data = [self.shown(one) for one in records]
        return {"object": "list", "data": data, "has_more": False}


def _handler(server: FineTuningServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._take("GET", b"")

        def do_POST(self) -> None:
            self._take("POST", self.rfile.read(int(self.headers["Content-Length"])))

        def _take(self, method: str, body: bytes) -> None:
            path = urlparse(self.path).path
            server.requests.append((method, path))
            if self.headers.get("Authorization") != f"Bearer {server.key}":
                sent = str(self.headers.get("Authorization")).removeprefix("Bearer ")
                said = f"Incorrect API key provided: {sent}"  # as some services do
                self._send(401, {"error": {"message": said}})
                return
            trouble = server.refuse(method, path)
            answer = server.answer(method, path, body) if trouble is None else {}
            trouble = server.lose(method, path) if trouble is None else trouble
            if trouble == 0:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            elif trouble is not None:
                self._send(trouble, {"error": {"message": "scripted refusal"}})
            else:
                self._send(200, answer)

        def _send(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Stay quiet."""

    return Handler


@contextmanager
def serving() -> Iterator[FineTuningServer]:
    """Run a server on a free port of 127.0.0.1 for as long as the block lasts."""
    server = FineTuningServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
