"""Artifacts addressed by the action that made them, and the links from versions to artifacts.

Layout under the store's root::

    artifacts/<asset>/<action>/artifact.json, <table>.parquet, model files…
    versions/<corpus version>/<asset>.json      which artifact that version uses, and how it came
    snapshots/, blobs/                          frozen documents (ragft_pipeline.corpus.snapshots)
    staging/                                    unfinished work; never read as a result
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ragft_pipeline.errors import RagftError
from ragft_pipeline.store.files import publish_folder, write_json

How = Literal["computed", "reused", "carried"]


@dataclass(frozen=True)
class Artifact:
    """A published artifact: a folder that never changes."""

    asset: str
    action: str
    path: Path
    data_version: str
    facts: dict[str, Any]
    inputs: dict[str, str]
    lineage: str = ""

    def table(self, name: str | None = None) -> pa.Table:
        """Read a table of this artifact, by default the asset's own."""
        return pq.read_table(self.path / f"{name or self.asset}.parquet")

    @property
    def model(self) -> Path:
        """The folder of the model this artifact holds."""
        return self.path / "model"


@dataclass(frozen=True)
class Link:
    """What one corpus version uses for one asset, and how it came by it.

    A model may be `carried` forward from an earlier version: `carried_for` is then the decision
    (the action that was not run, and the policy), and `reason` what a person reads.
    """

    asset: str
    version: str
    action: str
    data_version: str
    how: How
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)
    carried_for: str = ""
    reason: str = ""


class ArtifactStore:
    """Reads and publishes artifacts under one folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()

    def artifact_path(self, asset: str, action: str) -> Path:
        """Return where the artifact of an action is, or would be."""
        return self.root / "artifacts" / asset / action

    def find(self, asset: str, action: str) -> Artifact | None:
        """Return the artifact of an action, or None where it was never published.

        What was found counts as in use: its folder's time is set, and housekeeping goes by that.
        """
        path = self.artifact_path(asset, action)
        try:
            card = json.loads((path / "artifact.json").read_text(encoding="utf-8"))
            _mark_as_used(path)
        except FileNotFoundError:
            return None
        return Artifact(
            asset,
            action,
            path,
            card["data_version"],
            card["facts"],
            card["inputs"],
            card.get("lineage", ""),
        )

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """Give a folder to build in; whatever is left in it afterwards is removed."""
        path = self.root / "staging" / f"{name}-{uuid.uuid4().hex[:12]}"
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def publish(
        self,
        asset: str,
        action: str,
        staged: Path,
        *,
        data_version: str,
        facts: dict[str, Any],
        inputs: dict[str, str],
        lineage: str = "",
    ) -> Artifact:
        """Publish a staged folder as the artifact of `action`.

        `lineage` is a digest of the code and settings behind it, whatever the documents.
        Where another process published the same action first, that artifact is returned.
        """
        card = {
            "asset": asset,
            "action": action,
            "data_version": data_version,
            "facts": facts,
            "inputs": inputs,
            "lineage": lineage,
            "created": time.time(),
        }
        write_json(staged / "artifact.json", card)
        publish_folder(staged, self.artifact_path(asset, action))
        artifact = self.find(asset, action)
        assert artifact is not None
        return artifact

    def link(self, link: Link) -> None:
        """Record what a version uses for an asset (atomic, last writer wins)."""
        write_json(self._link_path(link.version, link.asset), asdict(link))

    def linked(self, version: str, asset: str) -> Link | None:
        """Return what a version uses for an asset, or None where it has not been materialized."""
        try:
            raw = json.loads(self._link_path(version, asset).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Link(**raw)

    def read(self, version: str, asset: str) -> Artifact:
        """Return the artifact a version uses for an asset.

        Raises RagftError where it was not materialized or its folder was removed.
        """
        link = self.linked(version, asset)
        artifact = self.find(asset, link.action) if link else None
        if artifact is None:
            raise RagftError(
                f"{asset} is missing for {version}: materialize it first (`ragft run`)"
            )
        return artifact

    def _link_path(self, version: str, asset: str) -> Path:
        return self.root / "versions" / version / f"{asset}.json"


def _mark_as_used(path: Path) -> None:
    try:
        os.utime(path)
    except FileNotFoundError:  # removed at this moment
        raise
    except OSError:  # a store that may only be read has no housekeeping
        pass
