"""The frozen texts of documents, by their digest (doc_key): written once, never removed.

They are never all in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from ragft_pipeline.errors import RagftError
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.files import write_all_atomically, write_atomically

_TEXTS_AT_ONCE, _BYTES_AT_ONCE = 512, 1 << 26


class Texts:
    """The texts under one store, `blobs/<2 hex>/<doc_key>.txt`."""

    def __init__(self, store: ArtifactStore) -> None:
        self._root = store.root
        self._remote = store.publications.remote if store.publications else None

    def __getitem__(self, doc_key: str) -> str:
        """Return a text; RagftError where object storage has another one under its digest."""
        file = self._root / _name(doc_key)
        if self._remote is not None and not file.is_file():
            data = self._remote.read(_name(doc_key))
            if data is None or hashlib.sha256(data).hexdigest() != doc_key:
                what = "missing" if data is None else "damaged"
                raise RagftError(f"{self._remote.url}/{_name(doc_key)} is {what}")
            write_atomically(file, data)
        return file.read_text(encoding="utf-8")

    def write(self, texts: dict[str, bytes], frozen: Collection[str]) -> None:
        """Write texts that a version is about to name, by doc_key, safe against a kill.

        Args:
            frozen: digests that an earlier version names, whose texts are there for sure.
        """
        files = {key: self._root / _name(key) for key in texts}
        write_all_atomically({f: texts[key] for key, f in files.items() if not f.exists()})
        if remote := self._remote:
            new = [key for key in texts if key not in frozen]
            remote.each(lambda key: remote.write(_name(key), texts[key]), new)


class TextWriter:
    """Writes texts some at a time; what was added is surely there after `flush`."""

    def __init__(self, texts: Texts, frozen: Collection[str]) -> None:
        self._texts = texts
        self._frozen = frozen
        self._waiting: dict[str, bytes] = {}
        self._bytes = 0

    def add(self, text: str) -> str:
        """Add a text and return its doc_key."""
        data = text.encode()
        doc_key = hashlib.sha256(data).hexdigest()
        if doc_key not in self._waiting:
            self._waiting[doc_key] = data
            self._bytes += len(data)
            if len(self._waiting) >= _TEXTS_AT_ONCE or self._bytes >= _BYTES_AT_ONCE:
                self.flush()
        return doc_key

    def flush(self) -> None:
        """Write what was added."""
        self._texts.write(self._waiting, self._frozen)
        self._waiting.clear()
        self._bytes = 0


def _name(doc_key: str) -> str:
    return f"blobs/{doc_key[:2]}/{doc_key}.txt"
