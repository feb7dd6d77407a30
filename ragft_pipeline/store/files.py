"""Writing files so that a kill at any moment leaves the old state or the new one."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_FLUSHES = 16


def fsync_path(path: Path) -> None:
    """Flush a file or a folder entry to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` through a temporary name, fsync and rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_path(path.parent)


def create_atomically(path: Path, data: bytes) -> bool:
    """Write a file that must not be there yet; False where another process was first.

    It appears whole, by a hard link of a finished file, under a name that nobody else has.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    fsync_path(path.parent)
    return True


def json_bytes(value: Any) -> bytes:
    """Return the one form in which JSON documents are written."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()


def write_all_atomically(contents: Mapping[Path, bytes]) -> None:
    """Write files as `write_atomically` does, waiting for the disk once for all."""
    temporaries = {path: path.with_name(f".{path.name}.{uuid.uuid4().hex}") for path in contents}
    for path, temporary in temporaries.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(contents[path])
    with ThreadPoolExecutor(_FLUSHES) as pool:  # side by side they share the disk's commits
        list(pool.map(fsync_path, temporaries.values()))
        for path, temporary in temporaries.items():
            temporary.replace(path)
        list(pool.map(fsync_path, {path.parent for path in contents}))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically."""
    write_atomically(path, json_bytes(value))


def publish_folder(staged: Path, final: Path) -> bool:
    """Move a finished folder to its final name; False if another process was first.

    The rename is the publication: before it nothing is visible, after it everything is. What has
    other names, a shared segment, is on the disk already.
    """
    for path in (*sorted(staged.rglob("*")), staged):
        if path.is_dir() or path.stat().st_nlink == 1:
            fsync_path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(staged, ignore_errors=True)
        return False
    fsync_path(final.parent)
    return True
