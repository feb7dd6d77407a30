"""A real S3-speaking server (moto's) over HTTP on 127.0.0.1, and machines that use it."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ragft_pipeline.store import ArtifactStore

ROOT = Path(__file__).parent.parent
LOST = 600  # a status for "it was done, and the answer never came"


@dataclass
class S3Server:
    """The server's address, what it was asked, and what goes wrong.

    Requests are served one at a time, as moto looks for an object and writes it in two steps:
    here a conditional write must be what it is on S3, one step.

    Attributes:
        fault: told the method and the path of a request, it may answer with a status instead.
        mangle: may change the bytes of an answer.
        moved: bytes of what it was sent and of its answers.
        deaf: whether conditions are overheard, as by servers that do not know them.
    """

    address: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    fault: Callable[[str, str], int | None] | None = None
    mangle: Callable[[str, str, bytes], bytes] | None = None
    deaf: bool = False
    moved: int = 0
    _one: threading.Lock = field(default_factory=threading.Lock)

    def wrap(self, app: Any) -> Any:
        def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            if length := environ.get("CONTENT_LENGTH"):  # all of it is here before anything is done
                environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(length)))
                self.moved += int(length)
            with self._one:
                self.asked.append((method, path))
                if self.deaf:
                    environ.pop("HTTP_IF_NONE_MATCH", None)
                status = self.fault(method, path) if self.fault else None
                if status is not None and status != LOST:
                    start_response(f"{status} Fault", [("Content-Length", "0")])
                    return [b""]
                body = b"".join(app(environ, start_response))
                self.moved += len(body) if method != "HEAD" else 0
                if status == LOST:  # or the client would wait for it
                    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                    raise ConnectionAbortedError
            return [self.mangle(method, path, body) if self.mangle else body]

        return answer

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self.fault, self.mangle, self.deaf = None, None, False


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Serve on a free port; one address for a whole test session, as clients are kept by it."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *arguments: object) -> None: ...

        def log(self, *arguments: object) -> None: ...

    server = S3Server()
    app = server.wrap(DomainDispatcherApplication(create_backend_app))
    http = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    server.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield server
    http.shutdown()
    thread.join()


@dataclass
class Team:
    """One store on the server, and machines with a cache each."""

    server: S3Server
    url: str
    folder: Path
    environment: dict[str, str]

    def machine(self, name: str) -> ArtifactStore:
        """Return the store as a machine sees it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAGFT_CACHE", str(self.folder / name))
            return ArtifactStore(self.url)

    def process(self, name: str, program: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a Python program on a machine; the store's URL is its first argument."""
        environment = {**self.environment, "RAGFT_CACHE": str(self.folder / name)}
        return subprocess.Popen(
            [sys.executable, "-c", program, self.url, *arguments], cwd=ROOT, env=environment,
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def objects(self, folder: str = "") -> list[str]:
        """Return the names of the objects below a folder of the store."""
        fs, path = self._place()
        return sorted(name[len(path) + 1 :] for name in fs.find(f"{path}/{folder}".rstrip("/")))

    def read(self, name: str) -> bytes:
        fs, path = self._place()
        return bytes(fs.cat_file(f"{path}/{name}"))

    def overwrite(self, name: str, data: bytes) -> None:
        fs, path = self._place()
        fs.pipe_file(f"{path}/{name}", data)

    def remove(self, name: str) -> None:
        fs, path = self._place()
        fs.rm_file(f"{path}/{name}")

    def _place(self) -> tuple[Any, str]:
        import fsspec

        fs, path = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        return fs, path


@contextmanager
def make_team(server: S3Server, folder: Path) -> Iterator[Team]:
    """Make a bucket and point this process's environment to the server."""
    import fsspec

    variables = {
        "AWS_ENDPOINT_URL": server.address,
        "AWS_ACCESS_KEY_ID": "loopback",
        "AWS_SECRET_ACCESS_KEY": "not-to-be-seen-anywhere",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "RAGFT_CACHE": str(folder / "this"),
        "HF_HUB_OFFLINE": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.delenv("DAGSTER_HOME", raising=False)
        bucket = f"team-{uuid.uuid4().hex[:12]}"
        fsspec.filesystem("s3", use_listings_cache=False).mkdir(bucket)
        yield Team(server, f"s3://{bucket}/handbook", folder, dict(os.environ))
        server.heal()
        server.asked.clear()
