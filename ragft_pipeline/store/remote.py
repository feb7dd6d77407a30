"""Object storage below a URL: reads, writes, and the conditional write that pointers need."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from ragft_pipeline.digests import file_sha256
from ragft_pipeline.errors import RagftError, TransientError, one_line, redacted
from ragft_pipeline.store.files import json_bytes

Item = TypeVar("Item")
Result = TypeVar("Result")
# Those whose fsspec implementation hands `create` on to the server as a condition of the write
# (If-None-Match, ifGenerationMatch). fsspec's own default looks first and writes then: a race.
_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs",
    "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
}  # fmt: skip
_IDENTITY, _FORMAT = "store.json", 1
_TRIES, _THREADS = 4, 16
_STAMPS = ("LastModified", "last_modified", "updated", "mtime")
_URL = re.compile(r"[A-Za-z][\w+.-]*(?:://|::)")


@dataclass(frozen=True)
class Listed:
    """An object of a listing: bytes, time of the last write (epoch), and a mark of its content.

    The mark is empty where the storage gives none.
    """

    size: int
    modified: float
    mark: str


class Remote:
    """The objects below one URL, by relative names.

    Every error is a RagftError of one line, a TransientError where it may pass by itself.
    Credentials come from the environment, in the variables that each storage's library reads.

    Raises RagftError for a URL with credentials in it, and for a file system whose writes cannot
    be made to fail where an object exists.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        protocol = self.url.partition("://")[0]
        if redacted(url) != url or "?" in url:
            raise RagftError(
                f"store {redacted(url)}: no user, key or query in the address; "
                "credentials come from the environment"
            )
        if protocol not in _PACKAGES:
            raise RagftError(
                f"store {url}: {protocol}:// offers no write that fails where something is "
                "already, so two writers could lose each other's work; "
                "use a folder, s3://, gs:// or az://"
            )

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """The fsspec file system, and the path in it."""
        import fsspec

        try:
            fs, path = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except ImportError:
            package = _PACKAGES[self.url.partition("://")[0]]
            raise RagftError(f"store {self.url}: install {package} first (pip install)") from None
        except Exception as error:
            raise self._refused(error) from None
        return fs, path.rstrip("/")

    @cached_property
    def identity(self) -> str:
        """The store's own name, made up by whoever came first; caches go by it.

        Raises RagftError where the storage does not refuse to create what is there already.
        """
        data = self.read(_IDENTITY)
        if data is None:
            self.create(_IDENTITY, json_bytes({"format": _FORMAT, "id": uuid.uuid4().hex}))
            data = self.read(_IDENTITY) or b"{}"
            if self._put_new(_IDENTITY, data) is None:
                raise RagftError(
                    f"store {self.url}: the server overwrites where it was told to create only, "
                    "so two writers could lose each other's work; it must honour If-None-Match"
                )
        try:
            found = json.loads(data)
            name, version = str(found["id"]), found["format"]
        except (ValueError, KeyError, TypeError):
            raise RagftError(f"{self.url}/{_IDENTITY} is broken: is this a store?") from None
        if version != _FORMAT or not re.fullmatch(r"[0-9a-f]{32}", name):
            raise RagftError(f"store {self.url} has format {version!r}, this reads {_FORMAT}")
        return name

    def read(self, name: str) -> bytes | None:
        """Return an object, or None where there is none."""
        fs, _ = self._place
        try:
            return bytes(fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._refused(error) from None

    def exists(self, name: str) -> Listed | None:
        """Return what a listing would say of an object now, or None where there is none."""
        fs, _ = self._place
        try:
            return _listed(fs.info(self._path(name)))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._refused(error) from None

    def write(self, name: str, data: bytes) -> None:
        """Write an object; the last writer wins."""
        fs, _ = self._place
        try:
            fs.pipe_file(self._path(name), data)
        except Exception as error:
            raise self._refused(error) from None

    def create(self, name: str, data: bytes) -> bool:
        """Write an object that must not be there yet; False where another writer was first."""
        for attempt in range(_TRIES):
            try:
                there = self._put_new(name, data)
            except TransientError:  # two at one moment may both be told to try again
                if attempt == _TRIES - 1:
                    raise
                time.sleep(0.05 * 2**attempt)
            else:
                # An answer that was lost has the library try again: its first try may have won.
                return there is None or there == data
        raise AssertionError

    def _put_new(self, name: str, data: bytes) -> bytes | None:
        """Create an object; return what is there already where the storage refuses."""
        fs, _ = self._place
        try:
            fs.pipe_file(self._path(name), data, mode="create")
        except Exception as error:  # a refusal looks different on every storage
            there = self.read(name)
            if there is None:
                raise self._refused(error) from None
            return there
        return None

    def listed(self, folder: str) -> dict[str, Listed]:
        """Return what lies below a folder, "" for all, by its name inside it.

        A name that leads out of the folder, or that no file could have, is left out.
        """
        fs, _ = self._place
        path = self._path(folder) if folder else self._place[1]
        try:
            found = fs.find(path, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise self._refused(error) from None
        inside = {full[len(path) + 1 :]: info for full, info in found.items() if full != path}
        return {name: _listed(info) for name, info in inside.items() if is_safe(name)}

    def upload(self, file: Path, name: str) -> None:
        """Write a file's bytes as an object."""
        fs, _ = self._place
        try:
            fs.put_file(str(file), self._path(name))
        except Exception as error:
            raise self._refused(error) from None

    def download(self, name: str, size: int, sha256: str, target: Path) -> None:
        """Write an object's bytes to a file, once they are what their digest says.

        Raises RagftError where the object is gone, or differs from its digest twice.
        """
        fs, _ = self._place
        target.parent.mkdir(parents=True, exist_ok=True)
        broken = None
        for _ in range(2):  # what differs was cut short on its way, or it is damaged
            try:
                fs.get_file(self._path(name), str(target))
            except FileNotFoundError:
                raise RagftError(
                    f"{self.url}/{name} is missing: delete the manifest that names it, "
                    "and it is made anew"
                ) from None
            except Exception as error:  # the library's own checksum among them
                broken = self._refused(error)
            else:
                if target.stat().st_size == size and file_sha256(target) == sha256:
                    return
                broken = None
        if broken is not None:
            raise broken
        target.unlink()
        raise RagftError(
            f"{self.url}/{name} is damaged: its content is not what its digest says; "
            "delete it and the manifest that names it, and it is made anew"
        )

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        fs, _ = self._place
        try:
            fs.rm_file(self._path(name))
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._refused(error) from None

    def each(self, action: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Do something for many objects, several at a time; the results are in their order."""
        todo = list(items)
        if len(todo) < 2:
            return [action(item) for item in todo]
        with ThreadPoolExecutor(min(_THREADS, len(todo))) as threads:
            return list(threads.map(action, todo))

    def _path(self, name: str) -> str:
        if not is_safe(name):
            raise RagftError(f"store {self.url}: {name!r} is no name of an object")
        return f"{self._place[1]}/{name}"

    def _refused(self, error: Exception) -> RagftError:
        kind = RagftError if isinstance(error, PermissionError | FileNotFoundError) else None
        return (kind or TransientError)(f"store {self.url}: {one_line(error, self.url)}")


def is_url(store: str) -> bool:
    """Say whether a `store` setting is a URL and not a folder's path."""
    return bool(_URL.match(store))


def local_path(store: str) -> Path | None:
    """Return the folder that a `store` setting means, or None where it is on object storage."""
    if not is_url(store):
        return Path(store)
    protocol, _, path = store.partition("://")
    return Path(path) if protocol in ("file", "local") else None


def absolute(store: str) -> str:
    """Return a `store` setting that means the same in every working directory."""
    folder = local_path(store)
    return store if folder is None else str(folder.resolve())


def is_safe(name: str) -> bool:
    """Say whether a name stays inside the folder it is joined to, on every system."""
    parts = name.split("/")
    plain = all(part not in ("", ".", "..") for part in parts)
    return (
        plain and not re.search(r"[\\:\x00-\x1f]", name) and not PurePosixPath(name).is_absolute()
    )


@lru_cache(maxsize=8)
def _open(url: str, process: int) -> Remote:
    return Remote(url)


def open_remote(url: str) -> Remote:
    """Return the object storage below a URL: one object a process, for a fork shares none."""
    return _open(url, os.getpid())


def cache_folder(remote: Remote) -> Path:
    """Return where this machine keeps copies: below $RAGFT_CACHE, else the user's cache."""
    if named := os.environ.get("RAGFT_CACHE"):
        root = Path(named)
    else:
        from platformdirs import user_cache_path

        root = user_cache_path("ragft_pipeline") / "stores"
    title = re.sub(r"[^A-Za-z0-9]+", "-", remote.url).strip("-")[-60:]
    return root / f"{title}-{remote.identity[:12]}"


def _listed(info: dict[str, Any]) -> Listed:
    stamp = next((info[name] for name in _STAMPS if info.get(name)), None)
    mark = info.get("ETag") or info.get("etag") or info.get("generation") or ""
    return Listed(int(info.get("size") or 0), _epoch(stamp), str(mark).strip('"'))


def _epoch(stamp: object) -> float:
    """Return a time stamp in seconds; what cannot be read counts as just written."""
    if isinstance(stamp, str):
        try:
            stamp = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
        except ValueError:
            return float("inf")
    if isinstance(stamp, datetime):
        return stamp.timestamp()
    return float(stamp) if isinstance(stamp, int | float) else float("inf")
