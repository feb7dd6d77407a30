"""Artifacts addressed by the action that made them, and the links from versions to artifacts.

Layout under the store's root::

    artifacts/<asset>/<action>/artifact.json, <table>.parquet/<segments>, row tables, model files…
    versions/<corpus version>/<asset>.json      which artifact that version uses, and how it came
    snapshots/, blobs/                          frozen documents (ragft_pipeline.corpus.snapshots)
    staging/                                    unfinished work; never read as a result
    locks/                                      which of it is in use (ragft_pipeline.store.life)

With a store on object storage the root is this machine's cache of it: what is published goes
there first (ragft_pipeline.store.publications), and files are fetched when they are asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ragft_pipeline.errors import RagftError
from ragft_pipeline.store.files import json_bytes, publish_folder, write_json
from ragft_pipeline.store.life import in_use
from ragft_pipeline.store.publications import Manifest, Publications
from ragft_pipeline.store.records import FolderRecords, Records, RemoteRecords
from ragft_pipeline.store.remote import cache_folder, local_path, open_remote
from ragft_pipeline.store.tables import read_batches, read_table

CARD = "artifact.json"
How = Literal["computed", "reused", "carried"]


@dataclass(frozen=True)
class Artifact:
    """A published artifact: a folder that never changes.

    Attributes:
        place: where it is published: a folder, or a URL.
        folder: where its files are on this machine, or will be once `path` is asked for.
    """

    asset: str
    action: str
    place: str
    folder: Path
    data_version: str
    facts: dict[str, Any]
    inputs: dict[str, str]
    lineage: str = ""
    _fetch: Callable[[], None] | None = field(default=None, compare=False, repr=False)

    @property
    def path(self) -> Path:
        """The folder of its files, which are fetched first where they are elsewhere."""
        if self._fetch is not None:
            self._fetch()
        return self.folder

    def table(self, name: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a table of this artifact, by default the asset's own and all columns."""
        return read_table(self.table_path(name), columns)

    def reader(self, name: str | None = None) -> pa.RecordBatchReader:
        """Return a reader of a table, for what need not be in memory as a whole."""
        return read_batches(self.table_path(name))

    def table_path(self, name: str | None = None) -> Path:
        """Return where a table lies: a folder of segments, or a file."""
        return self.path / f"{name or self.asset}.parquet"

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
    """Reads and publishes artifacts under one folder, or under one URL by way of a cache.

    Attributes:
        root: the folder of the store, or of the cache.
        url: where the store is, as people know it.
        records: its small documents.
        publications: its folders on object storage; None for a store that is a folder.
    """

    def __init__(self, place: str | Path) -> None:
        folder = local_path(str(place))
        self.publications: Publications | None = None
        if folder is not None:
            self.root = folder.resolve()
            self.url = str(self.root)
            self.records: Records = FolderRecords(self.root)
            return
        remote = open_remote(str(place))
        self.root = cache_folder(remote).resolve()
        self.url = remote.url
        self.publications = Publications(remote, self.root)
        self.records = RemoteRecords(remote, self.root)

    def artifact_path(self, asset: str, action: str) -> Path:
        """Return where the artifact of an action is, or would be."""
        return self.root / "artifacts" / asset / action

    def peek(self, asset: str, action: str) -> Artifact | None:
        """Return the artifact of an action as `find` does, to look at: it does not count as used.

        Of a store on object storage it may have been withdrawn some hours ago.
        """
        if publications := self.publications:
            seen = publications.peek(f"artifacts/{asset}/{action}")
            return self._published(publications, seen, asset, action) if seen else None
        path, card = (
            self.artifact_path(asset, action),
            self.card(f"artifacts/{asset}/{action}", CARD),
        )
        return _artifact(asset, action, card, str(path), path) if card is not None else None

    def find(self, asset: str, action: str) -> Artifact | None:
        """Return the artifact of an action, or None where it was never published.

        What was found counts as in use: its folder's time is set, and housekeeping goes by that.
        """
        if publications := self.publications:
            found = self._manifest(publications, f"artifacts/{asset}/{action}", CARD)
            return self._published(publications, found, asset, action) if found else None
        path = self.artifact_path(asset, action)
        card = self.card(f"artifacts/{asset}/{action}", CARD)
        try:
            if card is not None:
                _mark_as_used(path)
        except FileNotFoundError:
            return None
        return _artifact(asset, action, card, str(path), path) if card is not None else None

    def _published(
        self, publications: Publications, manifest: Manifest, asset: str, action: str
    ) -> Artifact:
        place, path = (
            f"{self.url}/artifacts/{asset}/{action}.json",
            self.artifact_path(asset, action),
        )
        return _artifact(
            asset, action, manifest.card, place, path,
            lambda: publications.fetch(manifest, path),
        )  # fmt: skip

    def _manifest(self, publications: Publications, name: str, card_name: str) -> Manifest | None:
        """Return what is published under a name; what a clean-up took away comes back from here."""
        manifest = publications.manifest(name)
        folder = self.root / name
        if manifest is None and (folder / card_name).is_file():
            publications.publish(name, folder, card_name)
            manifest = publications.manifest(name)
        return manifest

    def publish_folder(self, name: str, staged: Path, card_name: str) -> None:
        """Publish a finished folder under a name that says what it holds, such as an action.

        Where another process published it first, that one stays and the staged one goes.
        """
        if self.publications and not self.publications.publish(name, staged, card_name):
            shutil.rmtree(staged)
            return
        publish_folder(staged, self.root / name)

    def fetch_folder(self, name: str, card_name: str) -> None:
        """Bring a published folder to this machine, if it is elsewhere."""
        if self.publications:
            manifest = self._manifest(self.publications, name, card_name)
            if manifest is not None:
                self.publications.fetch(manifest, self.root / name)

    def card(self, name: str, card_name: str) -> dict[str, Any] | None:
        """Return what a published folder says of itself, or None where it is not published."""
        if self.publications:
            manifest = self._manifest(self.publications, name, card_name)
            return manifest.card if manifest else None
        try:
            return dict(json.loads((self.root / name / card_name).read_bytes()))
        except FileNotFoundError:
            return None

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """Give a folder to build in; whatever is left in it afterwards is removed.

        Its lock says that it is in use, for as long as this process lives: a training may run for
        days without a word.
        """
        path = self.root / "staging" / f"{name}-{uuid.uuid4().hex[:12]}"
        path.mkdir(parents=True)
        with in_use(path):
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
        write_json(staged / CARD, card)
        self.publish_folder(f"artifacts/{asset}/{action}", staged, CARD)
        artifact = self.find(asset, action)
        assert artifact is not None
        return artifact

    def link(self, link: Link) -> None:
        """Record what a version uses for an asset (atomic, last writer wins)."""
        data = json_bytes(asdict(link))
        self.records.write(f"versions/{link.version}/{link.asset}.json", data)

    def linked(self, version: str, asset: str) -> Link | None:
        """Return what a version uses for an asset, or None where it has not been materialized."""
        data = self.records.read(f"versions/{version}/{asset}.json")
        return self._link(version, data) if data is not None else None

    def links(self, version: str) -> dict[str, Link]:
        """Return all that a version uses, by asset."""
        found = self.records.read_all(f"versions/{version}").values()
        return {link.asset: link for link in (self._link(version, data) for data in found)}

    def _link(self, version: str, data: bytes) -> Link:
        try:
            return Link(**json.loads(data))
        except (ValueError, TypeError):
            raise RagftError(f"{self.url}/versions/{version} holds a damaged link") from None

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


def _artifact(
    asset: str,
    action: str,
    card: dict[str, Any],
    place: str,
    folder: Path,
    fetch: Callable[[], None] | None = None,
) -> Artifact:
    return Artifact(
        asset, action, place, folder, card["data_version"], card["facts"], card["inputs"],
        card.get("lineage", ""), fetch,
    )  # fmt: skip


def _mark_as_used(path: Path) -> None:
    try:
        os.utime(path)
    except FileNotFoundError:  # removed at this moment
        raise
    except OSError:  # a store that may only be read has no housekeeping
        pass
