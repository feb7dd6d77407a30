"""The server below the service: so many connections at once, and none that says nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from ragft_pipeline.settings import ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

_LAST_SECONDS = 5  # for answers under way when the service is told to end


def open_server(app: FastAPI, settings: ServeSettings) -> uvicorn.Server:
    """Return the server of a service, ready to run on sockets."""
    # no access log: questions stand in the addresses
    return uvicorn.Server(
        uvicorn.Config(
            app, http=_bounded(settings), log_level="warning", access_log=False,
            server_header=False, timeout_graceful_shutdown=_LAST_SECONDS,
        )
    )  # fmt: skip


def _bounded(settings: ServeSettings) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with the limits that it has no setting for.

    A connection beyond the most is closed, and one on which the head of a request has begun, or
    its first is due, and is not whole in time. Between two requests uvicorn's own limit holds.
    """
    base: Any = AutoHTTPProtocol

    class Bounded(base):
        late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > settings.max_connections:
                transport.abort()
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._forget()
            elif self.late is None:
                self.late = self.loop.call_later(settings.request_seconds, self.transport.abort)

        def _forget(self) -> None:
            if self.late is not None:
                self.late.cancel()
                self.late = None

    return Bounded
