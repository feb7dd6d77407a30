"""Servers on 127.0.0.1 that speak real protocols: embedding endpoints, and a hub."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

Embed = Callable[[Sequence[str]], np.ndarray]


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def embedding_server(embed: Embed, api: str, key: str = "") -> Iterator[str]:
    """Serve embeddings by OpenAI's, TEI's or Ollama's interface; a wrong key is refused."""

    class Server(_Handler):
        def do_POST(self) -> None:
            asked = json.loads(self.body())
            if key and self.headers.get("Authorization") != f"Bearer {key}":
                self.answer(401, {"error": "no"})
                return
            paths = {"openai": "/v1/embeddings", "tei": "/embed", "ollama": "/api/embed"}
            if self.path != paths[api]:
                self.answer(404, {"error": "not here"})
                return
            rows = embed(asked["inputs"] if api == "tei" else asked["input"]).tolist()
            numbered = [{"index": at, "embedding": row} for at, row in enumerate(rows)]
            said = {"openai": {"data": numbered[::-1]}, "tei": rows, "ollama": {"embeddings": rows}}
            self.answer(200, said[api])

    with _served(Server) as address:
        yield address


@dataclass
class Hub:
    """A hub's repositories: the files of each by name, and whether it is private."""

    address: str = ""
    token: str = "hf_secret"
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    mangle: Callable[[str, bytes], bytes] = lambda name, data: data


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Serve what `huggingface_hub` needs to create, upload and download; no LFS."""
    hub = Hub()

    class Server(_Handler):
        def _allowed(self) -> bool:
            if self.headers.get("authorization") == f"Bearer {hub.token}":
                return True
            self.answer(401, {"error": "Invalid credentials"})
            return False

        def do_POST(self) -> None:
            data = self.body()
            if not self._allowed():
                return
            path = urlsplit(self.path).path
            if path == "/api/repos/create":
                asked = json.loads(data)
                name = "/".join(n for n in (asked.get("organization"), asked["name"]) if n)
                if name in hub.files:
                    self.answer(409, {"url": f"{hub.address}/{name}"})
                    return
                hub.files[name] = {}
                private = asked.get("private")
                hub.private[name] = bool(private or asked.get("visibility") == "private")
                self.answer(200, {"url": f"{hub.address}/{name}"})
            elif "/preupload/" in path:
                listed = json.loads(data)["files"]
                modes = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in listed
                ]
                self.answer(200, {"files": modes})
            elif "/commit/" in path:
                name = path.removeprefix("/api/models/").partition("/commit/")[0]
                for line in data.splitlines():
                    item = json.loads(line)
                    if item["key"] == "file":
                        value = item["value"]
                        hub.files[name][value["path"]] = base64.b64decode(value["content"])
                said = {"commitUrl": f"{hub.address}/{name}/commit/{_sha(hub, name)}",
                        "commitOid": _sha(hub, name)}  # fmt: skip
                self.answer(200, said)
            else:
                self.answer(200, {})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if not self._allowed():
                return
            path = unquote(urlsplit(self.path).path)
            if "/resolve/" in path:
                name, _, rest = path.lstrip("/").partition("/resolve/")
                file = rest.partition("/")[2]
                if file not in hub.files.get(name, {}):
                    self.answer(404, {"error": "no"}, X_Error_Code="EntryNotFound")
                    return
                data = hub.mangle(file, hub.files[name][file])
                tag = hashlib.sha256(data).hexdigest()[:40]
                self.answer(200, data, ETag=f'"{tag}"', X_Repo_Commit=_sha(hub, name))
                return
            name = path.removeprefix("/api/models/").partition("/revision/")[0]
            name = name.partition("/tree/")[0]
            if name not in hub.files:
                self.answer(404, {"error": "no"}, X_Error_Code="RepoNotFound")
            elif "/tree/" in path:
                listed = [
                    {"type": "file", "path": file, "size": len(data), "oid": "0" * 40}
                    for file, data in sorted(hub.files[name].items())
                ]
                self.answer(200, listed)
            else:
                siblings = [{"rfilename": file} for file in sorted(hub.files[name])]
                self.answer(
                    200,
                    {"id": name, "sha": _sha(hub, name), "private": hub.private[name],
                     "siblings": siblings, "tags": []},
                )  # fmt: skip

    with _served(Server) as address:
        hub.address = address
        yield hub


def _sha(hub: Hub, name: str) -> str:
    held = sorted((file, hashlib.sha1(data).hexdigest()) for file, data in hub.files[name].items())
    return hashlib.sha1(repr(held).encode()).hexdigest()
