"""Folders that are published on object storage, and this machine's copies of them.

Layout below the store's URL::

    store.json                          the store's identity and format
    objects/<2 hex>/<sha256>            the bytes of a published file, by their digest
    artifacts/<asset>/<action>.json     manifest: the files of a folder, their sizes and digests
    bundles/<digest>.json               the same for a bundle
    <manifest>.used                     when somebody last relied on it; empty
    versions/, champion/, freezes/      small documents (ragft_pipeline.store.records)
    blobs/                              frozen documents (ragft_pipeline.corpus.snapshots)

The manifest is the publication: it is created once its objects are there, and of two publishers
of one name one creates it. Objects are named by their content, so the other one's do no harm.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragft_pipeline.digests import file_sha256
from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.store.files import fsync_path, json_bytes, publish_folder, write_atomically
from ragft_pipeline.store.remote import Remote, is_safe
from ragft_pipeline.store.segments import digest_in, segments_below, share

# A clean-up spares what was used in the last day, so what was seen and marked as used is there
# for a day; it is looked at again long before.
LEASE_SECONDS = 6 * 3600.0
Files = dict[str, tuple[int, str]]  # bytes and SHA-256, by name
_SMALL = 1 << 16  # bytes; up to this an upload costs no more than asking whether it is needed


@dataclass(frozen=True)
class Manifest:
    """A published folder: each file's size and SHA-256, and the folder's card.

    The card is one of the files, a JSON document that says what the folder is.
    """

    files: Files
    card_name: str
    card: dict[str, Any]

    @classmethod
    def of(cls, folder: Path, card_name: str) -> Manifest:
        """Describe a finished folder."""
        files = {
            path.relative_to(folder).as_posix(): (
                path.stat().st_size,
                digest_in(path.name) or file_sha256(path),
            )
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        return cls(files, card_name, json.loads((folder / card_name).read_bytes()))

    @classmethod
    def parse(cls, data: bytes, origin: str) -> Manifest:
        """Read a manifest; RagftError for one that is broken or names files outside its folder."""
        try:
            raw = json.loads(data)
            files = {str(name): (int(size), str(sha)) for name, (size, sha) in raw["files"].items()}
            found = cls(files, str(raw["card_name"]), dict(raw["card"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RagftError(f"{origin} is damaged: it is no manifest") from None
        for name, (size, sha) in files.items():
            if not is_safe(name) or size < 0 or not re.fullmatch(r"[0-9a-f]{64}", sha):
                raise RagftError(f"{origin} is damaged: {name!r} is no file of a folder")
        if found.card_name not in files:
            raise RagftError(f"{origin} is damaged: {found.card_name!r} is not among its files")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what `parse` reads, as plain values."""
        return {"files": self.files, "card_name": self.card_name, "card": self.card}

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(size for size, _ in self.files.values())

    @property
    def objects(self) -> set[str]:
        """The digests of all files."""
        return {sha for _, sha in self.files.values()}


class Publications:
    """Publishes folders below a URL, and keeps copies of them in a cache folder."""

    def __init__(self, remote: Remote, cache: Path) -> None:
        self.remote = remote
        self.cache = cache

    def publish(self, name: str, staged: Path, card_name: str) -> bool:
        """Publish a finished folder; False where another process was first, with other bytes."""
        manifest = Manifest.of(staged, card_name)
        skipped = self._upload(staged, manifest.files)
        data = json_bytes(manifest.to_json())
        if not self.remote.create(f"{name}.json", data):
            self.mark_as_used(name)
            standing = self.remote.read(f"{name}.json")
            return standing is not None and self._parse(name, standing).files == manifest.files
        self._upload(staged, skipped)  # a clean-up may have passed between
        write_atomically(self._lease(name), data)
        return True

    def upload(self, folder: Path, card_name: str) -> Manifest:
        """Upload a finished folder's files, and describe it; nothing is published by this."""
        manifest = Manifest.of(folder, card_name)
        self._upload(folder, manifest.files)
        return manifest

    def _upload(self, folder: Path, files: Files) -> Files:
        """Upload files, and return those whose objects were there already."""

        def send(name: str) -> bool:
            size, sha = files[name]
            shared = (folder / name).stat().st_nlink > 1  # as segments that another folder has
            there = self.remote.exists(object_name(sha)) if shared or size > _SMALL else None
            if there is None or there.size != size:
                self.remote.upload(folder / name, object_name(sha))
                return True
            return False

        sent = self.remote.each(send, files)
        return {name: files[name] for name, new in zip(files, sent) if not new}

    def manifest(self, name: str) -> Manifest | None:
        """Return the manifest of a publication, or None where there is none.

        What is there is marked as used, and taken for there until the lease is over.
        """
        lease = self._lease(name)
        try:
            if time.time() - lease.stat().st_mtime < LEASE_SECONDS:
                return self._parse(name, lease.read_bytes())
        except FileNotFoundError:
            pass
        data = self.remote.read(f"{name}.json")
        if data is not None:
            self.mark_as_used(name)
            data = self.remote.read(f"{name}.json")  # now nobody takes it away
        if data is None:
            lease.unlink(missing_ok=True)
            return None
        manifest = self._parse(name, data)
        write_atomically(lease, data)
        return manifest

    def peek(self, name: str) -> Manifest | None:
        """Return the manifest of a publication to look at, without marking it as used.

        What was there in the last hours is taken for there: to look again would cost a request.
        """
        seen = self.cache / "seen" / f"{name}.json"
        for kept in (self._lease(name), seen):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - kept.stat().st_mtime < LEASE_SECONDS:
                    return self._parse(name, kept.read_bytes())
        data = self.remote.read(f"{name}.json")
        if data is None:
            seen.unlink(missing_ok=True)
            return None
        write_atomically(seen, data)
        return self._parse(name, data)

    def mark_as_used(self, name: str) -> None:
        """Keep a publication from clean-ups for a day."""
        try:
            self.remote.write(f"{name}.used", b"")
        except TransientError:
            raise
        except RagftError:  # credentials that may only read
            pass

    def fetch(self, manifest: Manifest, folder: Path) -> None:
        """Make `folder` this machine's whole copy of a publication, unless it is one already.

        Raises RagftError where a file is missing or damaged; nothing is visible then.
        """
        if self._is_copy(manifest, folder):
            os.utime(folder)  # in use: a clean-up of this machine leaves it alone
            return
        if folder.is_dir():  # of a publication that was withdrawn, and made anew elsewhere
            hidden = folder.with_name(f".removed-{folder.name}-{uuid.uuid4().hex[:8]}")
            with contextlib.suppress(FileNotFoundError):  # another process was first
                folder.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
        staged = self.cache / "staging" / f"fetch-{uuid.uuid4().hex[:12]}"
        try:
            staged.mkdir(parents=True)
            here = self._here(manifest, folder)

            def bring(name: str) -> None:
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                segment = here.get(manifest.files[name][1])
                if segment is None or not share(segment, staged / name):
                    self.fetch_object(manifest.files[name], staged / name)

            self.remote.each(bring, manifest.files)
            publish_folder(staged, folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _here(self, manifest: Manifest, folder: Path) -> dict[str, Path]:
        """Return files on this machine that hold objects of a publication, by digest.

        That is segments of any folder, and what other publications of its kind hold.
        """
        found = segments_below(self.cache) if any(map(digest_in, manifest.files)) else {}
        wanted = manifest.objects - found.keys()
        kind = folder.parent.relative_to(self.cache)
        for lease in (self.cache / "leases" / kind).glob("*.json"):
            with contextlib.suppress(RagftError, FileNotFoundError):  # damaged, or gone
                for name, (_, sha) in self._parse(lease.stem, lease.read_bytes()).files.items():
                    file = folder.with_name(lease.stem) / name
                    if sha in wanted and file.is_file() and file_sha256(file) == sha:
                        found[sha] = file
                wanted -= found.keys()
        return found

    def single(self, name: str, manifest: Manifest, file: str) -> Path:
        """Return where this machine keeps one file of a publication that it has no copy of."""
        sha = manifest.files[file][1]
        kind = name.rpartition("/")[0]
        return self.cache / "singles" / kind / f"{sha[:16]}-{Path(file).name}"

    def fetch_file(self, name: str, manifest: Manifest, file: str) -> Path:
        """Return one file of a publication: of this machine's copy, else fetched by itself."""
        copy, target = self.cache / name, self.single(name, manifest, file)
        if self._is_copy(manifest, copy):
            return copy / file
        if target.is_file():
            os.utime(target)
            return target
        staged = self.cache / "staging" / f"fetch-{uuid.uuid4().hex[:12]}"
        self.fetch_object(manifest.files[file], staged)
        fsync_path(staged)  # artifacts may share it
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(target)
        return target

    def fetch_object(self, what: tuple[int, str], target: Path) -> None:
        """Write an object, given by size and digest, to a file."""
        size, sha = what
        self.remote.download(object_name(sha), size, sha, target)

    def _is_copy(self, manifest: Manifest, folder: Path) -> bool:
        try:
            return file_sha256(folder / manifest.card_name) == manifest.files[manifest.card_name][1]
        except FileNotFoundError:
            return False

    def _parse(self, name: str, data: bytes) -> Manifest:
        return Manifest.parse(data, f"{self.remote.url}/{name}.json")

    def _lease(self, name: str) -> Path:
        if not is_safe(name):  # names come out of links and histories, which others write
            raise RagftError(f"store {self.remote.url}: {name!r} is no name of a publication")
        return self.cache / "leases" / f"{name}.json"


def object_name(sha256: str) -> str:
    """Return the name of the object with a content."""
    return f"objects/{sha256[:2]}/{sha256}"
