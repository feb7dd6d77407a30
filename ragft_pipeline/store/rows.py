"""Row reuse: compute only the units that no earlier artifact holds.

A unit (a document to chunk, a node to ask about, a text to embed) has a content hash as its row
key. Row tables live inside artifacts as ``<name>-<row settings>.parquet``, so earlier artifacts
are the cache, and DuckDB's semi-join over them says what is done already. Finished batches are
staged at once: a kill loses the batch in flight and no more. On object storage the tables of other
machines' artifacts are fetched for rows that this machine has not; staged rows stay here.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ragft_pipeline.compute.mapping import BatchMap, map_here
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError, TransientError, one_line
from ragft_pipeline.identities import versions
from ragft_pipeline.store.artifacts import ArtifactStore
from ragft_pipeline.store.files import fsync_path
from ragft_pipeline.store.held_rows import PART, Found, find_rows
from ragft_pipeline.store.listing import row_tables

Unit = TypeVar("Unit")
_TRIES = 10
_FETCHED = 8  # tables of other machines; the newest hold nearly all that is still wanted


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

    def published(self) -> None:
        """Drop the staged rows that the published artifact now holds."""
        for action in self._finished:
            action()


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
            done: told of each computed batch, here: how many units it had, and their rows.

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
        found = self._lookup(list(wanted))
        known = set(found.keys.to_pylist())
        missing = [unit for row_key, unit in wanted.items() if row_key not in known]
        del wanted, known
        self._work.count("rows_reused", len(found.keys))
        if self._own.exists() and not missing and all(file.own for file in found.files):
            yield from found.parts(self._schema)
            return
        if not missing and found.whole is not None and self._linked(found.whole):
            yield from found.parts(self._schema)
            return
        with self._appending() as write:
            for file in found.files:
                for rows in file.parts(self._schema):
                    if not file.own:
                        write(rows)
                    yield rows
            finished, name = 0, self._file.rsplit("-", 1)[0]
            for batch in self._work.map(compute, missing, batch_size):
                rows = batch.rows.select(self._schema.names).cast(self._schema)
                self._work.count("rows_computed", rows.num_rows)
                self._stage(rows)
                done(batch.units, rows)
                write(rows)
                finished += batch.units
                self._work.progress(f"{name}: {finished}/{len(missing)} computed")
                yield rows

    @property
    def _own(self) -> Path:
        return self._work.folder / f"{self._file}.parquet"

    def _linked(self, file: Path) -> bool:
        """Take a file that holds just the wanted rows as this artifact's own, without a copy."""
        if self._own.exists():
            return False
        try:
            os.link(file, self._own)
        except OSError:  # no links on this file system, or removed by another process
            return False
        return True

    @contextlib.contextmanager
    def _appending(self) -> Iterator[Callable[[pa.Table], None]]:
        """Give a function that adds rows to the artifact's file."""
        temporary = self._own.with_name(f".{self._own.stem}")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            with pq.ParquetWriter(temporary, self._schema, compression="zstd") as writer:
                if self._own.exists():
                    for batch in pq.ParquetFile(self._own).iter_batches(PART):
                        writer.write_batch(batch)
                yield writer.write_table
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(self._own)

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

    def _lookup(self, keys: list[str]) -> Found:
        found = self._lookup_here(keys)
        if self._work.store.publications is None:
            return found
        tables = row_tables(self._work.store, self._family, f"{self._file}.parquet")
        for _ in range(_FETCHED):
            missing = set(keys) - set(found.keys.to_pylist())
            try:
                file = next(tables, None) if missing else None
            except TransientError:
                raise
            except RagftError as error:  # rows can be made anew, wherever a copy of them is broken
                self._work.progress(f"passed over: {error}")
                break
            if file is None:
                break
            found = found.with_more(
                find_rows([str(file)], sorted(missing), self._own, self._schema)
            )
        return found

    def _lookup_here(self, keys: list[str]) -> Found:
        wanted, reason = set(keys), ""
        for _ in range(_TRIES):
            staged: list[Path] = []
            try:
                files, staged = self._files()
                if not files:
                    break
                if staged:
                    os.utime(self._staging)  # rows that are asked for are not given up
                found = find_rows(files, keys, self._own, self._schema)
                held = [path for path in staged if _held_by(path, wanted)]
            except (duckdb.IOException, duckdb.InvalidInputException, FileNotFoundError) as error:
                # another process published its staged rows meanwhile, or one lies there broken
                reason = one_line(error)
                _remove_unreadable(staged)
                continue
            self._consumed.extend(held)
            return found
        if reason:
            self._work.progress(f"{self._file}: earlier rows are made anew, for {reason}")
        return Found(pa.array([], pa.string()), [])

    def _files(self) -> tuple[list[str], list[Path]]:
        root = self._work.store.root / "artifacts"
        # Staged first: rows that another process publishes meanwhile are seen here or there.
        staged = sorted(self._staging.glob("*.parquet"))
        published = sorted(
            path
            for path in root.glob(f"{self._family}/*/{self._file}.parquet")
            if not path.parent.name.startswith(".")  # being removed
        )
        fetched = self._work.store.root.glob(
            f"singles/artifacts/{self._family}/*-{self._file}.parquet"
        )
        own = [self._own] if self._own.exists() else []
        return [str(path) for path in (*published, *fetched, *staged, *own)], staged

    def discard_staged(self) -> None:
        """Remove the staged batches whose rows were read into, or written for, this artifact."""
        for path in self._consumed:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process still has rows there
            self._staging.rmdir()


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
