"""Connections to a PostgreSQL database: one for each thread, and one that holds a lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ragft_pipeline.errors import RagftError, TransientError, one_line, redacted

_PATIENCE = 3_000  # milliseconds that another writer's lock is waited for
_NOT_AVAILABLE = "55P03"  # what PostgreSQL calls a lock that was waited for in vain


class Connections:
    """Connections to a database.

    Args:
        url: `postgresql://user@host/database`; the password comes from elsewhere.
        password: of the user; "" where none is needed.

    Raises RagftError where psycopg2 is not installed.
    """

    def __init__(self, url: str, password: str = "") -> None:
        try:
            import psycopg2
        except ImportError:
            raise RagftError(
                "targets of kind pgvector: pip install 'ragft-pipeline[pgvector]' first"
            ) from None
        self._library = psycopg2
        self._url, self._password = url, password
        self._local = threading.local()
        self._opened: list[Any] = []

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Give a cursor of this thread's connection; what is done with it is one transaction.

        Raises TransientError where the database cannot be reached, RagftError where it refuses.
        """
        connection = getattr(self._local, "connection", None)
        if connection is None or connection.closed:
            connection = self._local.connection = self._connect()
            self._opened.append(connection)
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        except self._library.OperationalError as error:
            connection.close()
            raise TransientError(f"PostgreSQL: {one_line(error, self._url)}") from None
        except self._library.Error as error:
            raise RagftError(f"PostgreSQL: {one_line(error, self._url)}") from None

    @contextmanager
    def only_writer(self, collection: str) -> Iterator[None]:
        """Hold an advisory lock of the database, which goes with a connection of its own.

        A server may take a moment to see that a connection is gone, so that long is waited.
        """
        connection = self._connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = {_PATIENCE}")
                cursor.execute("SELECT pg_advisory_lock(hashtext(%s))", (f"ragft {collection}",))
        except self._library.OperationalError as error:
            connection.close()
            if error.pgcode != _NOT_AVAILABLE:
                raise TransientError(f"PostgreSQL: {one_line(error, self._url)}") from None
            raise TransientError(
                f"{redacted(self._url)} {collection}: another process is publishing; wait for it"
            ) from None
        try:
            yield
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._opened:
            connection.close()
        self._opened.clear()
        self._local = threading.local()

    def _connect(self) -> Any:
        more = {"password": self._password} if self._password else {}
        try:
            return self._library.connect(self._url, connect_timeout=10, **more)
        except self._library.Error as error:
            raise TransientError(f"PostgreSQL: {one_line(error, self._url)}") from None
