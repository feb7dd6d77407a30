"""What a reader of a store can see: whether all of it is whole, and what has been paid for."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ragft_pipeline import schemas
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Link

TABLES = {recipe.name: recipe.table for recipe in RECIPES}


def visible_faults(store: ArtifactStore) -> list[str]:
    """Read all that a reader of the store can see, and say what is not whole."""
    faults = []
    for folder in (store.root / "artifacts").glob("*/*"):
        faults += _attempt(folder, _read_artifact, store, folder.parent.name, folder.name)
    for path in (store.root / "versions").glob("*/*.json"):
        faults += _attempt(path, _read_link, store, path)
    for path in (store.root / "staging" / "rows").glob("*/*.parquet"):
        faults += _attempt(path, pq.read_table, path)
    faults += _attempt(store.root / "snapshots", _read_snapshots, SnapshotStore(store))
    return faults


def _attempt(what: Path, read: Callable[..., Any], *arguments: Any) -> list[str]:
    try:
        read(*arguments)
    except Exception as error:
        return [f"{what.name}: {type(error).__name__}: {error}"]
    return []


def _read_artifact(store: ArtifactStore, asset: str, action: str) -> None:
    artifact = store.find(asset, action)
    assert artifact is not None, "no artifact.json"
    table = TABLES[asset]
    if table is None:
        from ragft_pipeline.retrieval.adapters import load_adapter

        load_adapter(artifact.model, resolve_weights(Settings().embedder.model).digest)
    else:
        assert artifact.table().schema == table.schema
    for path in artifact.path.rglob("*.parquet"):
        pq.read_table(path)
    for path in artifact.path.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


def _read_link(store: ArtifactStore, path: Path) -> None:
    link = Link(**json.loads(path.read_text(encoding="utf-8")))
    artifact = store.read(link.version, link.asset)
    assert artifact.data_version == link.data_version, "the link names another data version"


def _read_snapshots(snapshots: SnapshotStore) -> None:
    for version in snapshots.versions():
        snapshot = snapshots.load(version)
        assert snapshot.gold_text is not None
        for table in (schemas.DOCUMENTS, schemas.SKIPPED, schemas.LEDGER):
            snapshot.table(table)
        for key in snapshot.table(schemas.DOCUMENTS).column("doc_key").to_pylist():
            assert sha256(snapshots.text(key).encode()).hexdigest() == key, f"text {key}"
    snapshots.current()


def answers_kept(store: ArtifactStore) -> int:
    """Return the nodes whose answers are in an artifact or staged."""
    places = ("artifacts/*/*/llm_drafts-*.parquet", "staging/rows/llm_drafts-*/*.parquet")
    files = [path for place in places for path in store.root.glob(place)]
    return len({key for f in files for key in pq.read_table(f).column("row_key").to_pylist()})
