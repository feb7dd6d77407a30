"""A file of JSON lines that only grows: each line is on the disk before its writer goes on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from filelock import FileLock

from ragft_pipeline.errors import RagftError
from ragft_pipeline.store.files import fsync_path


@dataclass
class _Batch:
    """Lines that go to the disk together, and what became of them."""

    lines: list[bytes] = field(default_factory=list)
    written: bool = False


class Journal:
    """Appends for many threads and processes at once; whoever comes meanwhile shares a flush.

    A line that a kill cut short is closed by the next append, and passed over by `read`.

    Args:
        path: of the file; its folder is made by the first append.
        most_bytes: beyond which nothing is taken any more; 0: no limit.
    """

    def __init__(self, path: Path, most_bytes: int = 0) -> None:
        self.path = path
        self._most = most_bytes
        self._joining, self._writing = Lock(), Lock()
        self._next = _Batch()

    def append(self, row: dict[str, Any]) -> None:
        """Append a row; it is on the disk when this returns.

        Raises RagftError where the file is full, and OSError where the disk refuses.
        """
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        with self._joining:
            batch = self._next
            batch.lines.append(line)
        with self._writing:
            if batch.written:
                return
            with self._joining:  # nobody joins this batch any more
                self._next = _Batch()
            self._write(b"".join(batch.lines))
            batch.written = True

    def _write(self, data: bytes) -> None:
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"), self.path.open("ab") as file:
            size = file.tell()
            if self._most and size + len(data) > self._most:
                raise RagftError(f"{self.path} is full ({self._most / 1e6:g} MB)")
            if size and not self._ends_a_line():
                data = b"\n" + data
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            fsync_path(self.path.parent)

    def _ends_a_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def read(self) -> list[dict[str, Any]]:
        """Return the rows in the order they came, without lines that were cut short."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        rows = []
        for line in data.split(b"\n"):
            try:
                row = json.loads(line) if line else None
            except ValueError:
                continue
            if isinstance(row, dict):
                rows.append(row)
        return rows
