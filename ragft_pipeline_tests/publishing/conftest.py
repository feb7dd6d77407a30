"""One database server for all tests of a worker, and a collection of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragft_pipeline.publishing.target import Target
from ragft_pipeline_tests.publishing.stores import KINDS, opened, postgres

_numbers = itertools.count()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("postgres")) as address:
        yield address


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    kind = request.param
    address = request.getfixturevalue("database") if kind == "pgvector" else ""
    made = opened(kind, tmp_path, address, f"book{next(_numbers)}")
    yield made
    made.close()
