"""DuckDB in memory: one database a process, a connection for each question."""

from __future__ import annotations

import os
from functools import cache

import duckdb


def connection() -> duckdb.DuckDBPyConnection:
    """Return a connection with tables of its own, to be closed after use.

    To make a database anew takes longer than most questions.
    """
    return _database(os.getpid()).cursor()


@cache
def _database(process: int) -> duckdb.DuckDBPyConnection:
    """Return the database of a process: a forked one has its own, and not the other's threads."""
    return duckdb.connect()
