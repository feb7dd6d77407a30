"""The chain of corpus versions: which there are, in their order, and which one is current.

In a folder a version is a folder, `snapshots/<version>/`, and `current.json` names the last freeze;
the lock that a freeze holds keeps the chain one. On object storage every freeze is one numbered
entry, `freezes/000007.json`, that holds a new version's manifest or names an earlier version. So
one conditional write makes the version, its place in the chain and the pointer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Protocol

from ragft_pipeline.errors import RagftError
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.files import json_bytes, publish_folder
from ragft_pipeline.store.publications import Manifest, Publications
from ragft_pipeline.store.records import Records

CARD = "snapshot.json"
_FREEZES = "freezes"
_CURRENT = "snapshots/current.json"


class Chain(Protocol):
    """The versions of one store."""

    def versions(self) -> list[str]:
        """Return the versions, oldest first."""

    def current(self) -> str | None:
        """Return the version of the last freeze, or None before the first."""

    def arrivals(self, version: str) -> int:
        """Return how often a freeze has come to a version from another one, or as the first."""

    def folder(self, version: str) -> Path | None:
        """Return the folder of a version's files; None where there is no such version."""

    def seen(self) -> int:
        """Return how far the chain has come, for a decision that `extend` carries out."""

    def extend(self, version: str, staged: Path | None, seen: int) -> bool:
        """Make a version the current one, and publish its files where it is new.

        Returns False where another freeze came between: look again, and decide anew.
        """


def open_chain(store: ArtifactStore) -> Chain:
    """Return the chain of a store."""
    if store.publications is not None:
        return RemoteChain(store.publications, store.records, store.root / "snapshots")
    return FolderChain(store.records, store.root / "snapshots")


class FolderChain:
    """A chain in a folder; whoever extends it holds the lock of the freezes."""

    def __init__(self, records: Records, root: Path) -> None:
        self._records = records
        self._root = root

    def versions(self) -> list[str]:
        """Return the versions, oldest first."""
        names = (path.parent.name for path in self._root.glob(f"v*/{CARD}"))
        return sorted(names, key=lambda name: int(name[1:].split("-")[0]))

    def current(self) -> str | None:
        """Return the version of the last freeze, or None before the first."""
        if last := self._last():
            return str(last["version"])
        versions = self.versions()
        return versions[-1] if versions else None

    def arrivals(self, version: str) -> int:
        """Return how often a freeze has come to a version from another one, or as the first."""
        return int(self._last().get("arrivals", {}).get(version, 1))

    def _last(self) -> dict[str, Any]:
        """Return what the last freeze wrote: its version, and how often each came again."""
        data = self._records.read(_CURRENT)
        return dict(json.loads(data)) if data is not None else {}

    def folder(self, version: str) -> Path | None:
        """Return the folder of a version's files; None where there is no such version."""
        folder = self._root / version
        return folder if (folder / CARD).is_file() else None

    def seen(self) -> int:
        """Return 0: the lock is held."""
        return 0

    def extend(self, version: str, staged: Path | None, seen: int) -> bool:
        """Publish a version's files where it is new, and make it the current one."""
        again = dict(self._last().get("arrivals", {}))
        if staged is not None:
            publish_folder(staged, self._root / version)
        elif version != self.current():
            again[version] = self.arrivals(version) + 1
        data = json_bytes({"version": version, "arrivals": again})
        self._records.write(_CURRENT, data)
        return True


class RemoteChain:
    """A chain on object storage."""

    def __init__(self, publications: Publications, records: Records, cache: Path) -> None:
        self._publications = publications
        self._records = records
        self._cache = cache

    def versions(self) -> list[str]:
        """Return the versions, oldest first."""
        return [str(entry["version"]) for entry in self._entries() if "files" in entry]

    def current(self) -> str | None:
        """Return the version of the last freeze, or None before the first."""
        entries = self._entries()
        return str(entries[-1]["version"]) if entries else None

    def arrivals(self, version: str) -> int:
        """Return how often a freeze has come to a version from another one, or as the first."""
        versions = [str(entry["version"]) for entry in self._entries()]
        before = [None, *versions]
        return sum(here == version != last for last, here in zip(before, versions))

    def folder(self, version: str) -> Path | None:
        """Return the folder of a version's files, fetched if need be; None for no such version."""
        for entry in self._entries():
            if entry["version"] == version and "files" in entry:
                origin = f"{_FREEZES}: {version}"
                manifest = Manifest.parse(json.dumps(entry).encode(), origin)
                self._publications.fetch(manifest, self._cache / version)
                return self._cache / version
        return None

    def seen(self) -> int:
        """Return the number of the last freeze."""
        return len(self._entries())

    def extend(self, version: str, staged: Path | None, seen: int) -> bool:
        """Append a freeze after those that were seen; False where there is one more by now."""
        if staged is None and self.current() == version:
            return True
        entry: dict[str, Any] = {"version": version}
        if staged is not None:
            entry |= self._publications.upload(staged, CARD).to_json()
        if not self._records.create(f"{_FREEZES}/{seen + 1:06d}.json", json_bytes(entry)):
            return False
        if staged is not None:
            publish_folder(staged, self._cache / version)
        return True

    def _entries(self) -> list[dict[str, Any]]:
        found = sorted(self._records.read_all(_FREEZES).items())
        return [_entry(f"{_FREEZES}/{name}", data) for name, data in found]


def _entry(name: str, data: bytes) -> dict[str, Any]:
    """Read a freeze; its version becomes a folder's name, so it must be one of ours."""
    try:
        entry = dict(json.loads(data))
        version = str(entry["version"])
    except (ValueError, KeyError, TypeError):
        version = ""
    if not re.fullmatch(r"v\d{4,}-[0-9a-f]{10}", version):
        raise RagftError(f"{name} of the store is damaged: it names no corpus version")
    return entry
