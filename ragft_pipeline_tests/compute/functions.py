"""Row functions that Ray's workers import."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

import ragft_pipeline
from ragft_pipeline.compute import RowFunction
from ragft_pipeline.errors import RagftError, TransientError

SCHEMA = pa.schema([("row_key", pa.string()), ("length", pa.int64()), ("where", pa.string())])
ERRORS = {"wrong": RagftError, "later": TransientError, "bug": ValueError}


@dataclass(frozen=True)
class Lengths(RowFunction[str]):
    """Lengths of words, where they were counted, and a line a call in a file."""

    seconds: ClassVar[float] = 1.0
    log: Path
    pause: float = 0.0
    fail_at: str = ""

    def __call__(self, units: Sequence[str]) -> pa.Table:
        with self.log.open("a") as log:
            log.write("".join(f"{unit} {os.getpid()}\n" for unit in units))
        time.sleep(self.pause * len(units))
        if self.fail_at in units:
            raise ERRORS[self.fail_at]("endpoint http://127.0.0.1:9/v1 answers\nnobody")
        where = f"{os.getpid()} {ragft_pipeline.__file__}"
        rows = [{"row_key": u, "length": len(u), "where": where} for u in units if u != "none"]
        return pa.Table.from_pylist(rows, schema=SCHEMA)
