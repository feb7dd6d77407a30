"""Which files of a corpus folder are documents, and why the others are not."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ragft_pipeline.corpus.readers.kinds import reason_unread
from ragft_pipeline.corpus.sources import Source, is_local, lies_within, real_path
from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings import CorpusSettings

EXCLUDED = "excluded"
ALWAYS_EXCLUDED = (
    ".*", "node_modules/", "bower_components/", "__pycache__/", "site-packages/", "*.egg-info/",
    "_build/", "~$*", "Thumbs.db", "desktop.ini", "*.pyc", "*.tmp", "*~",
)  # fmt: skip
_ENVIRONMENT, _CACHE = "pyvenv.cfg", "CACHEDIR.TAG"
_STORE = ("blobs", "snapshots")


@dataclass(frozen=True)
class Found:
    """A file, or a folder that was not entered (its path ends in `/`), inside a corpus.

    `reason` says why it is not read; None: it is. What was meant to be left out is `excluded`.
    """

    path: str
    reason: str | None = None
    excluded: bool = False


def list_documents(
    source: Source, settings: CorpusSettings, store: str | None = None
) -> Iterator[Found]:
    """Yield what is in the corpus folder, sorted by path: every document, and all that is not read.

    Of folders that are excluded (corpus.exclude, caches, virtual environments, a store), that may
    not be read or that are links, the folder alone is yielded.

    Args:
        store: the store's folder or URL, which is never part of a corpus.

    Raises RagftError where the corpus folder itself may not be read.
    """
    rules = _Rules(settings, _inside(source, store))
    found = _local(source, rules) if is_local(source.fs) else _remote(source, rules)
    for one in sorted(found, key=lambda one: one.path):
        yield _nameable(one)
    if source.outside is not None:
        yield from _outside(source, rules)


@dataclass(frozen=True)
class _Rules:
    settings: CorpusSettings
    store: str | None  # its path inside the corpus

    def of_folder(self, path: str, holds: Iterable[str] = ()) -> str | None:
        """Return why a folder is not entered, None where it is; paths are inside the corpus."""
        names = set(holds)
        if path == self.store or names.issuperset(_STORE):
            return f"{EXCLUDED}: a store of this tool"
        if _ENVIRONMENT in names:
            return f"{EXCLUDED}: a virtual environment"
        if _CACHE in names:
            return f"{EXCLUDED}: a cache"
        return self._excluded(f"{path}/")

    def of_file(self, path: str) -> Found:
        """Return a file as it is to be treated."""
        if reason := self._excluded(path):
            return Found(path, reason, excluded=True)
        suffix = posixpath.splitext(path)[1].lower()
        return Found(path, reason_unread(suffix, self.settings.suffixes))

    def _excluded(self, path: str) -> str | None:
        found = _patterns(self.settings.exclude).check_file(path)
        if not found.include:
            return None
        own = found.index is not None and found.index >= len(ALWAYS_EXCLUDED)
        name = path.rstrip("/").rpartition("/")[2]
        hidden = "hidden" if name.startswith(".") and not own else "by default"
        return f"{EXCLUDED}: {'corpus.exclude' if own else hidden}"


@cache
def _patterns(exclude: tuple[str, ...]) -> Any:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines([*ALWAYS_EXCLUDED, *exclude])


def _local(source: Source, rules: _Rules) -> Iterator[Found]:
    top = Path(source.root).resolve()
    prefix = len(source.root) + 1
    unreadable: list[OSError] = []
    for folder, folders, names in os.walk(source.root, onerror=unreadable.append):
        entered = []
        for name in sorted(folders):
            full = f"{folder}/{name}"
            path = full[prefix:]
            reason = rules.of_folder(path, _holds(full))
            if reason is not None:
                yield Found(f"{path}/", reason, excluded=True)
            elif os.path.islink(full):  # noqa: PTH114
                yield Found(path, "a symbolic link to a folder")
            else:
                entered.append(name)
        folders[:] = entered
        for name in names:
            full = f"{folder}/{name}"
            if full != source.gold:
                one = rules.of_file(full[prefix:])
                yield one if one.reason is not None else Found(one.path, _unfit(full, top))
    for error in unreadable:
        path = os.fsdecode(error.filename)[prefix:]
        if not path:
            raise RagftError(f"corpus.source {source.url!r} cannot be read: {error.strerror}")
        yield Found(f"{path}/", f"a folder that cannot be read: {error.strerror}")


def _holds(folder: str) -> list[str]:
    """Return which of the marks of folders that are left out a folder holds."""
    marks = (_ENVIRONMENT, _CACHE, *_STORE)
    return [mark for mark in marks if os.path.exists(f"{folder}/{mark}")]  # noqa: PTH110


def _remote(source: Source, rules: _Rules) -> Iterator[Found]:
    prefix = len(source.root) + 1
    files = [path[prefix:] for path in source.fs.find(source.root) if path != source.gold]
    holds: dict[str, set[str]] = {}
    for path in files:
        parts = path.split("/")
        for place in range(len(parts) - 1):
            holds.setdefault("/".join(parts[: place + 1]), set()).add(parts[place + 1])
    out: dict[str, str | None] = {}  # folders, by whether they are entered
    for folder in sorted(holds):
        above = folder.rpartition("/")[0]
        if out.get(above) is not None:
            out[folder] = out[above]
        elif reason := rules.of_folder(folder, holds[folder]):
            out[folder] = reason
            yield Found(f"{folder}/", reason, excluded=True)
    for path in files:
        if out.get(path.rpartition("/")[0]) is None:
            yield rules.of_file(path)


def _outside(source: Source, rules: _Rules) -> Iterator[Found]:
    """Yield the documents that lie beside `docs/`, which are no part of the corpus."""
    parent = Source(source.fs, str(source.outside), source.gold, source.url)
    within = _Rules(rules.settings, None)
    found = _local(parent, within) if is_local(source.fs) else _remote(parent, within)
    for one in sorted(found, key=lambda one: one.path):
        if one.reason is None and not _in_docs(source, one.path):
            reason = (
                "outside docs/, which is the corpus because questions lie beside it: move it "
                "into docs/, or keep the questions elsewhere and name them in corpus.gold_questions"
            )
            yield _nameable(Found(f"../{one.path}", reason))


def _in_docs(source: Source, path: str) -> bool:
    if path.startswith("docs/"):
        return True
    top = Path(source.root).resolve()
    return is_local(source.fs) and lies_within(f"{source.outside}/{path}", top)


def _inside(source: Source, store: str | None) -> str | None:
    """Return a store's path inside the corpus, None where it lies elsewhere."""
    if store is None:
        return None
    if not is_local(source.fs):
        path = source.fs._strip_protocol(store) if "://" in store else ""
        root = f"{source.root}/"
        return str(path).removeprefix(root).rstrip("/") if str(path).startswith(root) else None
    if "://" in store:
        return None
    top, place = Path(source.root).resolve(), Path(store).resolve()
    return place.relative_to(top).as_posix() if place != top and top in place.parents else None


def _unfit(full: str, top: Path) -> str | None:
    if os.path.isfile(full) and not os.path.islink(full):  # noqa: PTH113, PTH114
        return None  # its folder was entered, so that is no link either
    if not lies_within(full, top):
        return "a symbolic link that leads out of the corpus folder"
    real = real_path(full)
    if real.exists() and not real.is_file():
        return "a symbolic link to a folder" if real.is_dir() else "not a regular file"
    return None


def _nameable(one: Found) -> Found:
    try:
        one.path.encode()
    except UnicodeEncodeError:
        path = one.path.encode("utf-8", "backslashreplace").decode()
        return Found(path, "its name is not UTF-8")
    return one
