"""`ragft serve`, a process of its own, ends when it is told to."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from ragft_pipeline_tests.serving.conftest import Bundles, serving_process

HALF = b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{"


@pytest.mark.slow
def test_a_request_that_never_comes_whole_does_not_keep_it(
    promoted: Bundles, tmp_path: Path
) -> None:
    with serving_process(promoted[0], tmp_path / "log") as address:
        place = urlsplit(address)
        assert place.hostname
        assert place.port
        with socket.create_connection((place.hostname, place.port)) as stuck:
            stuck.sendall(HALF)
            assert requests.get(f"{address}/health", timeout=60).json() == {"status": "ok"}
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")
