"""Row reuse: compute only the units that no earlier artifact holds.

A unit (a document to chunk, a node to ask about, a text to embed) has a content hash as its row
key. Row tables live inside artifacts as segments, ``<name>-<row settings>.<sha256>.parquet``, so
earlier artifacts are the cache, and DuckDB's semi-join over them says what is done already. A
segment that holds wanted rows is shared whole, so an artifact may hold others beside them. Finished
batches are staged at once: a kill loses the batch in flight and no more. On object storage the
segments of other machines' artifacts are fetched for rows that this machine has not; staged rows
stay here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ragft_pipeline.compute.mapping import BatchMap, map_here
from ragft_pipeline.digests import digest_of, file_sha256
from ragft_pipeline.errors import RagftError, TransientError, one_line
from ragft_pipeline.identities import versions
from ragft_pipeline.store.artifacts import ArtifactStore
from ragft_pipeline.store.files import fsync_path
from ragft_pipeline.store.held_rows import OPEN_FILES, find_rows, read_rows
from ragft_pipeline.store.listing import row_tables
from ragft_pipeline.store.segments import ROWS, SegmentWriter, digest_in, share

Unit = TypeVar("Unit")
_TRIES = 10


@dataclass
class Workspace:
    """What an asset's computation gets: a folder to fill, and the row caches it may use.

    `code` is a digest of the code that computes (`Recipe.computed_by`), for what outlives a run.
    """

    store: ArtifactStore
    asset: str
    folder: Path
    progress: Callable[[str], None] = lambda line: None
    map: BatchMap = map_here
    code: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    _finished: list[Callable[[], None]] = field(default_factory=list)

    @property
    def model(self) -> Path:
        """The folder for the model this asset makes."""
        return self.folder / "model"

    def count(self, name: str, amount: int) -> None:
        """Add to a counter that ends up in the artifact's facts."""
        self.counts[name] = self.counts.get(name, 0) + amount

    def rows(
        self, name: str, row_settings: str, schema: pa.Schema, family: str | None = None
    ) -> RowCache:
        """Open the row table `name` for rows made under `row_settings`.

        That is a digest of what decides a row beside its key, the version constants of the code
        that makes it among it; the libraries' is added here.

        `family` is a glob over asset names that share the table, by default this asset alone.
        """
        made_under = digest_of(row_settings, versions())
        cache = RowCache(self, name, made_under, schema, family or self.asset)
        self._finished.append(cache.discard_staged)
        return cache

    def inherit(self, artifact: Path, *names: str) -> None:
        """Take all row tables that an earlier artifact holds, and some files, without a look."""
        rows = [file.name for file in artifact.glob("*.parquet") if digest_in(file.name)]
        for name in (*rows, *names):
            if not share(artifact / name, self.folder / name):
                shutil.copyfile(artifact / name, self.folder / name)

    def published(self) -> None:
        """Drop the staged rows that the published artifact now holds."""
        for action in self._finished:
            action()


@dataclass(frozen=True)
class _Part:
    """Wanted rows of a segment that the artifact holds, ascending, of `size` rows in all."""

    path: Path
    rows: np.ndarray
    size: int

    def read(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield the rows."""
        with pq.ParquetFile(self.path) as file:
            yield from read_rows(file, self.rows, schema)


class RowCache:
    """The rows of one table under one row-settings digest, from every earlier artifact."""

    def __init__(
        self, work: Workspace, name: str, row_settings: str, schema: pa.Schema, family: str
    ) -> None:
        self._work = work
        self._file = f"{name}-{row_settings[:24]}"
        self._schema = schema
        self._family = family
        self._staging = work.store.root / "staging" / "rows" / self._file
        self._consumed: list[Path] = []

    def complete(
        self,
        units: Sequence[Unit],
        key: Callable[[Unit], str],
        compute: Callable[[Sequence[Unit]], pa.Table],
        batch_size: int = 256,
        done: Callable[[int, pa.Table], None] = lambda units, rows: None,
    ) -> pa.Table:
        """Return one row a unit, computing only what no earlier artifact holds.

        Args:
            units: what is wanted; units with the same key count once.
            key: the unit's row key, a content hash.
            compute: rows for a batch of units: the table's schema, `row_key` included. A unit it
                returns no row for is not kept, and is tried again next time. A `RowFunction` may
                be called on other machines, in batches of any size up to `batch_size`.
            batch_size: units in a batch; each finished batch survives a kill.
            done: told of each computed batch, here: how many units it had, and their rows, with
                columns that the table has not.

        The result also becomes part of the artifact being built.
        """
        parts = list(self.batches(units, key, compute, batch_size, done))
        return pa.concat_tables([self._schema.empty_table(), *parts])

    def batches(
        self,
        units: Sequence[Unit],
        key: Callable[[Unit], str],
        compute: Callable[[Sequence[Unit]], pa.Table],
        batch_size: int = 256,
        done: Callable[[int, pa.Table], None] = lambda units, rows: None,
    ) -> Iterator[pa.Table]:
        """Yield the rows of `complete` part by part, holding one part at a time.

        The rows are in the artifact once all parts were taken.
        """
        wanted = {key(unit): unit for unit in units}
        absent, before = set(wanted), self._own()
        held = self._lookup(absent)
        missing = [unit for row_key, unit in wanted.items() if row_key in absent]
        self._work.count("rows_reused", len(wanted) - len(missing))
        del wanted, absent
        for part in held:
            yield from part.read(self._schema)
        if not missing:
            return
        with self._segments() as segments:
            finished, name = 0, self._file.rsplit("-", 1)[0]
            for batch in self._work.map(compute, missing, batch_size):
                rows = batch.rows.select(self._schema.names).cast(self._schema)
                self._work.count("rows_computed", rows.num_rows)
                self._stage(rows)
                done(batch.units, batch.rows)
                segments.write(rows)
                finished += batch.units
                self._work.progress(f"{name}: {finished}/{len(missing)} computed")
                yield rows
        apart = [part for part in held if part.path not in before]
        alone = {file: pq.read_metadata(file).num_rows for file in before if _is_alone(file)}
        self._merge([*apart, *_whole(alone)], segments.written)

    def _own(self) -> list[Path]:
        return sorted(self._work.folder.glob(f"{self._file}*.parquet"))

    def _segments(self) -> SegmentWriter:
        return SegmentWriter(self._work.folder, f"{self._file}.", self._schema)

    def _merge(self, held: Sequence[_Part], written: Mapping[Path, int]) -> None:
        """Write small segments anew, as one with the new rows, so that there are never many.

        A segment goes along once as many rows as it has came, so a row is written a few times.

        Args:
            held: segments that hold nothing else of this artifact's than the parts say.
        """
        new = _whole(written)[-1:]
        rows = sum(len(part.rows) for part in new)
        small = []
        for part in sorted(held, key=lambda part: part.size):
            if part.size > rows or rows + len(part.rows) > ROWS:
                break
            small.append(part)
            rows += len(part.rows)
        if not small:
            return
        with self._segments() as segments:
            for part in (*small, *new):
                for table in part.read(self._schema):
                    segments.write(table)
        for part in (*small, *new):
            if part.path not in segments.written:
                part.path.unlink(missing_ok=True)

    def _stage(self, rows: pa.Table) -> None:
        name = f"{self._work.asset}.{uuid.uuid4().hex}"  # housekeeping asks whose they are
        temporary = self._staging / f".{name}"
        while not temporary.exists():
            self._staging.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # emptied and removed by another process
                pq.write_table(rows, temporary, compression="zstd")
        path = self._staging / f"{name}.parquet"
        fsync_path(temporary)
        temporary.replace(path)
        self._consumed.append(path)

    def _lookup(self, missing: set[str]) -> list[_Part]:
        """Take what earlier artifacts hold into this one; what is found leaves `missing`."""
        held = self._lookup_here(missing)
        if self._work.store.publications is None:
            return held
        tables = row_tables(self._work.store, self._family, self._file)
        while missing:
            try:
                file = next(tables, None)
                if file is None:
                    break
                held += self._take([file], missing)
            except TransientError:
                raise
            except (RagftError, duckdb.Error) as error:  # rows can be made anew, wherever a copy of
                self._work.progress(f"passed over: {one_line(error)}")  # them is broken
                break
        return held

    def _lookup_here(self, missing: set[str]) -> list[_Part]:
        wanted, reason = set(missing), ""
        held: list[_Part] = []
        for _ in range(_TRIES):
            staged: list[Path] = []
            try:
                files, staged = self._files()
                if staged:
                    os.utime(self._staging)  # rows that are asked for are not given up
                for start in range(0, len(files), OPEN_FILES):
                    if not missing:
                        break
                    held += self._take(files[start : start + OPEN_FILES], missing)
                kept = [path for path in staged if _held_by(path, wanted)]
            except (duckdb.IOException, duckdb.InvalidInputException, FileNotFoundError) as error:
                # another process published its staged rows meanwhile, or one lies there broken
                reason = one_line(error)
                _remove_unreadable(staged)
                continue
            self._consumed.extend(kept)
            return held
        if reason:
            self._work.progress(f"{self._file}: earlier rows are made anew, for {reason}")
        return held

    def _take(self, files: Sequence[Path], missing: set[str]) -> list[_Part]:
        """Take the wanted rows of some files, the first the dearest, into this artifact.

        A segment is shared whole; staged rows, and what cannot be shared, are copied.
        """
        held, copied = [], []
        with self._segments() as segments:
            for found in find_rows([str(file) for file in reversed(files)], pa.array(missing)):
                own = self._shared(found.path)
                if own is not None:
                    held.append(_Part(own, found.rows, found.file.metadata.num_rows))
                else:
                    for rows in found.parts(self._schema):
                        segments.write(rows)
                copied.append(found.keys)
        held += _whole(segments.written)
        for keys in copied:
            missing.difference_update(keys.to_pylist())
        return held

    def _shared(self, file: Path) -> Path | None:
        """Take a segment as this artifact's own; None where its rows must be copied."""
        if file.parent == self._work.folder:
            return file
        if file.parent == self._staging:
            return None
        digest = digest_in(file.name) or file_sha256(file)
        own = self._work.folder / f"{self._file}.{digest}.parquet"
        own.parent.mkdir(parents=True, exist_ok=True)
        return own if share(file, own) else None

    def _files(self) -> tuple[list[Path], list[Path]]:
        """Return all files that may hold rows, the newest first after this artifact's own."""
        root = self._work.store.root
        # Staged first: rows that another process publishes meanwhile are seen here or there.
        staged = sorted(self._staging.glob("*.parquet"))
        published = {
            path.name if digest_in(path.name) else str(path): path
            for path in (root / "artifacts").glob(f"{self._family}/*/{self._file}*.parquet")
            if not path.parent.name.startswith(".")  # being removed
        }
        fetched = root.glob(f"singles/artifacts/{self._family}/*-{self._file}*.parquet")
        files = [*staged, *published.values(), *fetched]
        files.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
        return [*self._own(), *files], staged

    def discard_staged(self) -> None:
        """Remove the staged batches whose rows were read into, or written for, this artifact."""
        for path in self._consumed:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process still has rows there
            self._staging.rmdir()


def read_rows_of(artifact: Path, name: str) -> pa.Table:
    """Return the rows of a table that an artifact holds, those that it only shares among them."""
    return pa.concat_tables(
        [pq.read_table(file) for file in sorted(artifact.glob(f"{name}-*.parquet"))]
    )


def _is_alone(file: Path) -> bool:
    """Say whether no other artifact has a segment."""
    with contextlib.suppress(FileNotFoundError):
        return file.stat().st_nlink == 1
    return False


def _whole(written: Mapping[Path, int]) -> list[_Part]:
    return [_Part(path, np.arange(size), size) for path, size in written.items()]


def _held_by(path: Path, keys: set[str]) -> bool:
    """Say whether all rows of a staged batch are wanted, so that the artifact will hold them."""
    return keys.issuperset(pq.read_table(path, columns=["row_key"]).column("row_key").to_pylist())


def _remove_unreadable(staged: Sequence[Path]) -> None:
    for path in staged:
        try:
            pq.read_metadata(path)
        except (OSError, pa.ArrowInvalid) as error:
            if getattr(error, "errno", None) is None:  # the file's fault, not the system's
                path.unlink(missing_ok=True)
