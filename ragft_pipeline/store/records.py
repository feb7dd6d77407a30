"""Small JSON documents by name: links, the entries of a history, pointers.

In a folder they are files, on object storage they are objects. Either way a document is there
whole or not at all, and of two processes that create one name exactly one is told that it did.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Protocol

from ragft_pipeline.store.files import create_atomically, json_bytes, write_atomically
from ragft_pipeline.store.remote import Remote


class Records(Protocol):
    """Documents below one store, by names such as `champion/000017.json`."""

    poll_seconds: float  # how long one look for a change holds; 0 where looking costs nothing

    def read(self, name: str) -> bytes | None:
        """Return a document, or None where there is none."""

    def names(self, folder: str) -> list[str]:
        """Return the names of the `.json` documents that lie in a folder, sorted."""

    def read_all(self, folder: str) -> dict[str, bytes]:
        """Return the `.json` documents that lie in a folder, by their names in it."""

    def write(self, name: str, data: bytes) -> None:
        """Write a document; the last writer wins."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a document that must not be there yet; False where another was first."""


class FolderRecords:
    """Documents that are files below a folder."""

    poll_seconds = 0.0

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes | None:
        """Return a document, or None where there is none."""
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """Return the names of the `.json` documents that lie in a folder, sorted."""
        return sorted(path.name for path in (self._root / folder).glob("[!.]*.json"))

    def read_all(self, folder: str) -> dict[str, bytes]:
        """Return the `.json` documents that lie in a folder, by their names in it."""
        found = {name: self.read(f"{folder}/{name}") for name in self.names(folder)}
        return {name: data for name, data in found.items() if data is not None}

    def write(self, name: str, data: bytes) -> None:
        """Write a document; the last writer wins."""
        write_atomically(self._root / name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a document that must not be there yet; False where another was first."""
        return create_atomically(self._root / name, data)


class RemoteRecords:
    """Documents that are objects below a URL.

    What `read_all` has read is remembered in the cache under the mark that the listing gives it
    (an ETag), so that only what is new is asked for again.
    """

    poll_seconds = 5.0  # each look is a request that is paid for

    def __init__(self, remote: Remote, cache: Path) -> None:
        self._remote = remote
        self._cache = cache / "remembered"

    def read(self, name: str) -> bytes | None:
        """Return a document, or None where there is none."""
        return self._remote.read(name)

    def names(self, folder: str) -> list[str]:
        """Return the names of the `.json` documents that lie in a folder, sorted."""
        return sorted(self._marks(folder))

    def read_all(self, folder: str) -> dict[str, bytes]:
        """Return the `.json` documents that lie in a folder, by their names in it."""
        marks = self._marks(folder)
        memory = self._cache / f"{hashlib.sha256(folder.encode()).hexdigest()[:24]}.json"
        known: dict[str, tuple[str, str]] = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(memory.read_bytes())
        held = {n: known[n] for n, mark in marks.items() if mark and known.get(n, ("",))[0] == mark}
        wanted = [name for name in marks if name not in held]
        texts = self._remote.each(lambda name: self._remote.read(f"{folder}/{name}"), wanted)
        read = {name: data.decode() for name, data in zip(wanted, texts) if data is not None}
        found = {n: held[n][1] if n in held else read[n] for n in marks if n in held or n in read}
        if read or len(held) < len(known):
            remembered = {name: (marks[name], text) for name, text in found.items()}
            write_atomically(memory, json_bytes(remembered))
        return {name: text.encode() for name, text in found.items()}

    def write(self, name: str, data: bytes) -> None:
        """Write a document; the last writer wins."""
        self._remote.write(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a document that must not be there yet; False where another was first."""
        return self._remote.create(name, data)

    def _marks(self, folder: str) -> dict[str, str]:
        listing = self._remote.listed(folder).items()
        return {n: e.mark for n, e in listing if n.endswith(".json") and "/" not in n}
