"""What clients that go, stall or crowd in cost the others: nothing for long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ragft_pipeline.serving.connections import open_server
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.service import create_app
from ragft_pipeline.settings import ServeSettings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.serving.conftest import Bundles
from ragft_pipeline_tests.serving.test_service import Slow, wait_for

ASK = b"GET /search?question=how+often HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = (
    b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b'Content-Length: 30\r\n%b\r\n{"question": "h'
)


@contextmanager
def listening(
    store: ArtifactStore, champion: Any = None, token: str = "", **limits: Any
) -> Iterator[int]:
    """Give the port of a real server of the service, in a thread."""
    settings = ServeSettings(**limits)
    app = create_app(champion or Champion(store), settings, token)
    server = open_server(app, settings)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def sent(port: int, data: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(data)
    return client


def received(client: socket.socket) -> bytes:
    try:
        return client.recv(4096)
    except ConnectionResetError:
        return b""


def test_clients_that_have_gone_leave_the_queue(promoted: Bundles) -> None:
    slow: Any = Slow(promoted[0])
    with listening(promoted[0], slow, max_concurrent=1, max_waiting=3) as port:
        try:
            running = sent(port, ASK)
            wait_for(lambda: slow.running == 1)
            waiting = [sent(port, ASK) for _ in range(3)]
            wait_for(lambda: received(sent(port, ASK)).startswith(b"HTTP/1.1 503"))
            for client in waiting:
                client.close()
            found: list[bytes] = []

            def answered() -> bool:
                client = sent(port, ASK)
                client.settimeout(0.3)
                try:
                    found.append(client.recv(4096))
                except TimeoutError:
                    return True  # it waits its turn
                return False

            wait_for(answered, 10)
        finally:
            slow.go.set()
        assert received(running).startswith(b"HTTP/1.1 200")
        wait_for(lambda: slow.running == 0)
    assert slow.asked == 1  # nobody waited for the others


def test_what_is_half_sent_is_not_held(promoted: Bundles) -> None:
    limits = {"request_seconds": 0.4}
    with listening(promoted[0], token="s3cret", **limits) as port:
        stranger = sent(port, POST % b"")
        assert received(stranger).startswith(b"HTTP/1.1 401")  # before its body has come
        start = time.monotonic()
        late = sent(port, POST % b"Authorization: Bearer s3cret\r\n")
        assert received(late).startswith(b"HTTP/1.1 408")
        for half in (b"", b"GET /sea"):
            assert received(sent(port, half)) == b""
        assert time.monotonic() - start > 0.4
        again = sent(port, ASK.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer s3cret\r\n\r\n"))
        assert received(again).startswith(b"HTTP/1.1 200")


def test_only_so_many_connections_are_open(promoted: Bundles) -> None:
    with listening(promoted[0], max_connections=3) as port:
        idle = [sent(port, b"") for _ in range(3)]
        wait_for(lambda: received(sent(port, ASK)) == b"", 5)
        idle[0].close()
        wait_for(lambda: received(sent(port, ASK)).startswith(b"HTTP/1.1 200"), 5)


def test_a_failure_that_nobody_foresaw_passes_nothing_on(
    promoted: Bundles, caplog: pytest.LogCaptureFixture
) -> None:
    broken: Any = Slow(promoted[0])
    broken.go.set()
    secret = "https://user:hunter2@storage.example/x?sig=abcdef123456"
    broken.fails = OSError(f"cannot read {secret}")
    with listening(promoted[0], broken) as port:
        answer = received(sent(port, ASK))
    assert answer.startswith(b"HTTP/1.1 500")
    shown = answer.decode() + caplog.text
    assert "the search failed" in shown
    assert "https://storage.example/x" in caplog.text
    assert "hunter2" not in shown
    assert "abcdef123456" not in shown
