"""Which models a document reached: each model folder lists the documents that trained it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.store.files import write_json
from ragft_pipeline.store.listing import files_named

TRAINED_ON_FILE = "trained_on.json"


@dataclass(frozen=True)
class TaintedModel:
    """A model that a document helped to train, where it is, and the versions that use it."""

    asset: str
    place: str
    versions: list[str]


def record_documents(model: Path, *nodes: pa.Table) -> None:
    """Write the digests (doc_key) of the documents behind NODES tables into a model folder."""
    keys = {key for table in nodes for key in table.column("doc_key").to_pylist()}
    write_json(model / TRAINED_ON_FILE, sorted(keys))


def document_keys(snapshots: SnapshotStore, document: str) -> set[str]:
    """Return every text that ever stood at a path, or the one whose digest was given.

    Raises RagftError where no version has such a document.
    """
    keys = {
        row["doc_key"]
        for version in snapshots.versions()
        for row in snapshots.load(version).table(schemas.DOCUMENTS).to_pylist()
        if document in (row["path"], row["doc_key"])
    }
    if not keys:
        raise RagftError(f"no version has a document {document!r}; give its path or its digest")
    return keys


def tainted_models(snapshots: SnapshotStore, keys: Iterable[str]) -> list[TaintedModel]:
    """Return the models that any of the texts helped to train or to choose."""
    wanted, store, found = set(keys), snapshots.store, []
    used = {version: store.links(version) for version in snapshots.versions()}
    for asset, action, place, file in files_named(store, f"model/{TRAINED_ON_FILE}"):
        if wanted & set(json.loads(file.read_text(encoding="utf-8"))):
            versions = [
                version
                for version, links in used.items()
                if asset in links and links[asset].action == action
            ]
            found.append(TaintedModel(asset, place, versions))
    return found
