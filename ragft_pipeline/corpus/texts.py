"""The frozen texts of documents, by their digest (doc_key): written once, never removed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

from ragft_pipeline.errors import RagftError
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.files import write_atomically


class Texts:
    """The texts under one store, `blobs/<2 hex>/<doc_key>.txt`."""

    def __init__(self, store: ArtifactStore) -> None:
        self._root = store.root
        self._remote = store.publications.remote if store.publications else None

    def read(self, doc_key: str) -> str:
        """Return a text; RagftError where object storage has another one under its digest."""
        file = self._root / _name(doc_key)
        if self._remote is not None and not file.is_file():
            data = self._remote.read(_name(doc_key))
            if data is None or hashlib.sha256(data).hexdigest() != doc_key:
                what = "missing" if data is None else "damaged"
                raise RagftError(f"{self._remote.url}/{_name(doc_key)} is {what}")
            write_atomically(file, data)
        return file.read_text(encoding="utf-8")

    def read_all(self, doc_keys: Collection[str]) -> dict[str, str]:
        """Return texts by their digests."""
        keys = list(doc_keys)
        if self._remote is not None:
            return dict(zip(keys, self._remote.each(self.read, keys)))
        return {key: self.read(key) for key in keys}

    def keep(self, texts: Mapping[str, str], frozen: Collection[str]) -> None:
        """Write texts that a version is about to name.

        Args:
            texts: by doc_key.
            frozen: the digests that an earlier version names, whose texts are there for sure.
        """
        for key, text in texts.items():
            if not (self._root / _name(key)).exists():
                write_atomically(self._root / _name(key), text.encode())
        if remote := self._remote:
            new = [key for key in texts if key not in frozen]
            remote.each(lambda key: remote.write(_name(key), texts[key].encode()), new)


def _name(doc_key: str) -> str:
    return f"blobs/{doc_key[:2]}/{doc_key}.txt"
