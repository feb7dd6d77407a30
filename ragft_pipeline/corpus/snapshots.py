"""BoundCorpus versions: documents frozen once, content-addressed, never changed afterwards.

Layout under the store's root::

    blobs/<2 hex>/<sha256>.txt          normalised text of a document, by its digest (doc_key)
    snapshots/<version>/snapshot.json   counts, parent, digests
    snapshots/<version>/documents.parquet, skipped.parquet, warnings.parquet,
                                        ledger.parquet, gold.jsonl, gold_left_out.parquet

A version is named ``v0001-<digest>``: its place in the chain and what it holds. Freezing content
that an earlier version holds returns that version. Where the chain lies on object storage, the
folders are this machine's copies (ragft_pipeline.corpus.chain).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from ragft_pipeline import schemas
from ragft_pipeline.corpus.chain import CARD, open_chain
from ragft_pipeline.corpus.gold import left_out_lines, read_gold_questions
from ragft_pipeline.corpus.left_out import counted, is_excluded, why_excluded
from ragft_pipeline.corpus.readers import READER_VERSION
from ragft_pipeline.corpus.reading import ReadDocument, read_corpus, warnings_of
from ragft_pipeline.corpus.sources import Source, open_source
from ragft_pipeline.corpus.splits import LedgerEntry
from ragft_pipeline.corpus.texts import Texts, TextWriter
from ragft_pipeline.corpus.units import is_markdown, plan_units
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError, redacted
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.files import write_json

_TRIES = 20  # freezes of other machines that may come between


@dataclass(frozen=True)
class Snapshot:
    """A frozen corpus version."""

    version: str
    folder: Path
    facts: dict[str, Any]
    store: ArtifactStore = field(compare=False, repr=False)

    def table(self, table: schemas.Table) -> pa.Table:
        """Read one of the snapshot's tables: DOCUMENTS, SKIPPED, WARNINGS or LEDGER."""
        file = self.folder / f"{table.name}.parquet"
        if table is schemas.WARNINGS and not file.is_file():  # frozen before there were any
            return table.schema.empty_table()
        return pq.read_table(file, schema=table.schema)

    @property
    def left_out(self) -> dict[str, str]:
        """What was not read, or read with a doubt: counts by reason, for people."""
        reasons = self.table(schemas.SKIPPED).column("reason").to_pylist()
        warnings = self.table(schemas.WARNINGS).column("warning").to_pylist()
        groups = {
            "skipped": [reason for reason in reasons if not is_excluded(reason)],
            "excluded": [why_excluded(reason) for reason in reasons if is_excluded(reason)],
            "warnings": warnings,
        }
        return {name: counted(found) for name, found in groups.items() if found}

    @property
    def gold_text(self) -> str:
        """The gold questions file as it was, empty where there was none."""
        file = self.folder / "gold.jsonl"
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    @property
    def gold_left_out(self) -> list[str]:
        """What a person reads of the entries of the gold file that are not used."""
        if not (self.folder / f"{schemas.GOLD_LEFT_OUT.name}.parquet").is_file():
            return []
        left_out = self.table(schemas.GOLD_LEFT_OUT).to_pylist()
        return left_out_lines(left_out, self.facts["gold_entries"])

    @property
    def guard(self) -> str:
        """A digest of the texts that val and test have ever held: what may not train."""
        path = self.folder / f"{schemas.LEDGER.name}.parquet"
        rows = pq.read_table(path, columns=["doc_key", "split"]).to_pylist()
        return digest_of(sorted((r["doc_key"], r["split"]) for r in rows if r["split"] != "train"))

    @property
    def data_version(self) -> str:
        """A digest of the documents (paths, titles, texts, metadata), split and gold questions."""
        return str(self.facts["data_version"])


class SnapshotStore:
    """Freezes corpus versions and finds them again."""

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store
        self.root = store.root / "snapshots"
        self._chain = open_chain(store)
        self._texts = Texts(store)

    def versions(self) -> list[str]:
        """Return the frozen versions, oldest first."""
        return self._chain.versions()

    def load(self, version: str) -> Snapshot:
        """Return a frozen version; raises RagftError where there is none of that name."""
        folder = self._chain.folder(version)
        if folder is None:
            known = ", ".join(self.versions()[-5:]) or "none yet: run `ragft freeze`"
            raise RagftError(f"no corpus version {version!r}; there are: {known}") from None
        facts = json.loads((folder / CARD).read_text(encoding="utf-8"))
        return Snapshot(version, folder, facts, self.store)

    def latest(self) -> Snapshot | None:
        """Return the newest version of the chain, or None: the parent of the next."""
        versions = self.versions()
        return self.load(versions[-1]) if versions else None

    def current(self) -> Snapshot | None:
        """Return the version of the last freeze: the newest, unless the documents went back."""
        version = self._chain.current()
        return self.load(version) if version is not None else None

    def named(self, version: str | None) -> Snapshot:
        """Return a frozen version by its name, else the current one; RagftError for none."""
        found = self.load(version) if version else self.current()
        if found is None:
            raise RagftError("no corpus version yet: run `ragft run`")
        return found

    def arrivals(self, version: str) -> int:
        """Return how often a freeze has made a version the current one."""
        return self._chain.arrivals(version)

    def text(self, doc_key: str) -> str:
        """Return the frozen text of a document."""
        return self._texts[doc_key]

    def freeze(
        self, settings: Settings, progress: Callable[[str], None] = lambda line: None
    ) -> Snapshot:
        """Freeze the corpus folder as it is now.

        Returns the existing version where the content is one that was frozen before. Documents
        that cannot be read are skipped, named and counted in the snapshot.

        Raises RagftError for a corpus without a single readable document.
        """
        source = open_source(settings.corpus)
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".lock"):  # one freeze a machine: versions form one chain
            return self._freeze(source, settings, progress)

    def _freeze(
        self, source: Source, settings: Settings, progress: Callable[[str], None]
    ) -> Snapshot:
        parent = self.latest()
        frozen = parent.table(schemas.LEDGER).column("doc_key").to_pylist() if parent else []
        texts = TextWriter(self._texts, set(frozen))
        known = _known_texts(parent, settings)
        read, skipped = read_corpus(source, settings, known, texts.add, progress)
        texts.flush()

        def keep(parts: Sequence[str]) -> list[str]:
            keys = [texts.add(part) for part in parts]
            texts.flush()
            return keys

        if not read:
            failed = [row for row in skipped if not is_excluded(row["reason"])] or skipped
            reasons = "; ".join(f"{row['path']}: {row['reason']}" for row in failed[:3])
            raise RagftError(
                f"corpus.source {source.url!r} has no readable document"
                + (f" ({len(failed)} skipped: {reasons})" if skipped else "")
                + f"; kinds read: {' '.join(settings.corpus.suffixes)}"
            )
        gold = source.read_gold() or ""
        identity = digest_of(
            sorted(_said_of(item) for item in read),
            sorted((row["path"], row["reason"]) for row in skipped),
            sorted((row["path"], row["warning"]) for row in warnings_of(read)),
            hashlib.sha256(gold.encode()).hexdigest(),
        )
        for _ in range(_TRIES):
            seen = self._chain.seen()
            version = self._known_version(identity)
            if version is None:
                version = self._publish(read, skipped, gold, identity, seen, settings, keep)
            elif not self._chain.extend(version, None, seen):
                version = None
            if version is not None:
                return self.load(version)
            progress("another machine has frozen meanwhile: looking again")
        raise RagftError("other machines freeze all the time: try again")

    def _known_version(self, identity: str) -> str | None:
        """Return the version that holds a content, if one does."""
        for version in self.versions():
            if version.endswith(identity[:10]) and self.load(version).facts["identity"] == identity:
                return version
        return None

    def _publish(
        self,
        read: list[ReadDocument],
        skipped: list[dict[str, str]],
        gold: str,
        identity: str,
        seen: int,
        settings: Settings,
        keep: Callable[[Sequence[str]], list[str]],
    ) -> str | None:
        """Make the next version after those seen; None where another freeze came between."""
        parent = self.latest()
        before = (
            [LedgerEntry(**row) for row in parent.table(schemas.LEDGER).to_pylist()]
            if parent
            else []
        )
        previous = _same_corpus(parent, {item.doc_key for item in read}, settings)
        units, ledger = plan_units(read, self._texts, keep, before, settings.split, previous)
        characters = {unit.doc_key: unit.characters for unit in units}
        place = {entry.doc_key: entry for entry in ledger}
        documents = [
            {
                "path": unit.path,
                "doc_key": unit.doc_key,
                "raw_sha256": unit.file.raw_sha256,
                "bytes": unit.file.size,
                "characters": unit.characters,
                "title": unit.title,
                "markdown": is_markdown(unit.path),
                "cluster": place[unit.doc_key].cluster,
                "split": place[unit.doc_key].split,
                "file": unit.file.path,
                "file_key": unit.file.doc_key,
                "start_char": unit.start,
                "metadata": unit.file.metadata,
                "front": unit.file.front,
            }
            for unit in units
        ]
        table = pa.Table.from_pylist(documents, schema=schemas.DOCUMENTS.schema)
        questions = read_gold_questions(gold, table, self._texts.__getitem__)
        number = int(parent.version[1:].split("-", 1)[0]) + 1 if parent else 1
        version = f"v{number:04d}-{identity[:10]}"
        facts = {
            "version": version,
            "identity": identity,
            "parent": parent.version if parent else None,
            "source": redacted(settings.corpus.source),
            "reading": _reading(settings),
            "documents": len(read),
            "sections": len(units) if len(units) > len(read) else 0,
            "skipped": sum(not is_excluded(row["reason"]) for row in skipped),
            "excluded": sum(is_excluded(row["reason"]) for row in skipped),
            "warnings": len(warnings_of(read)),
            "gold_entries": questions.entries,
            "gold_questions": questions.table.num_rows,
            "gold_whole": questions.of_whole_documents,
            "characters": sum(characters.values()),
            "statistics_version": self._statistics_version(
                version, characters, place, parent, settings
            ),
            "data_version": digest_of(identity, sorted((d["path"], d["split"]) for d in documents)),
            "frozen": time.time(),
        }
        with self.store.staging("snapshot") as staged:
            _write(staged, schemas.DOCUMENTS, documents)
            _write(staged, schemas.SKIPPED, skipped)
            _write(staged, schemas.WARNINGS, warnings_of(read))
            _write(staged, schemas.LEDGER, [vars(entry) for entry in ledger])
            _write(staged, schemas.GOLD_LEFT_OUT, [vars(one) for one in questions.left_out])
            (staged / "gold.jsonl").write_text(gold, encoding="utf-8")
            write_json(staged / CARD, facts)
            return version if self._chain.extend(version, staged, seen) else None

    def _statistics_version(
        self,
        version: str,
        characters: dict[str, int],
        place: dict[str, LedgerEntry],
        parent: Snapshot | None,
        settings: Settings,
    ) -> str:
        """Say which version's term statistics are in force.

        The parent's, while less than `statistics.refresh_share` of the training text is new to
        it; decided here, along the chain, so that the order of materialization cannot matter.
        """
        if parent is None:
            return version
        anchor = str(parent.facts["statistics_version"])
        counted = set(self.load(anchor).table(schemas.DOCUMENTS).column("doc_key").to_pylist())
        train = [key for key in characters if place[key].split == "train"]
        total = sum(characters[key] for key in train)
        new = sum(characters[key] for key in train if key not in counted)
        return version if new > settings.statistics.refresh_share * max(1, total) else anchor


def _same_corpus(
    parent: Snapshot | None, doc_keys: Collection[str], settings: Settings
) -> dict[str, str] | None:
    """Return path to doc_key of the version before, if it was of the same corpus."""
    if parent is None:
        return None
    rows = parent.table(schemas.DOCUMENTS).to_pylist()
    before = {row["path"]: row["doc_key"] for row in rows}
    texts = {row["file_key"] or row["doc_key"] for row in rows}
    same = parent.facts["source"] == redacted(settings.corpus.source) or texts & set(doc_keys)
    return before if same else None


def _said_of(document: ReadDocument) -> tuple[str, ...]:
    """Return what of a document makes a version another one."""
    more = [document.metadata] if document.metadata else []
    return (document.path, document.doc_key, document.title, *more)


def _reading(settings: Settings) -> str:
    """Return a digest of what, besides its bytes, decides the text of a document."""
    return digest_of(READER_VERSION, settings.corpus.encodings, settings.corpus.max_text_mb)


def _known_texts(
    parent: Snapshot | None, settings: Settings
) -> dict[tuple[str, str], ReadDocument]:
    """Return what the version before read, by its bytes and the kind of file."""
    if parent is None or parent.facts.get("reading") != _reading(settings):
        return {}
    rows = parent.table(schemas.DOCUMENTS).to_pylist()
    warnings: dict[str, tuple[str, ...]] = {}
    for row in parent.table(schemas.WARNINGS).to_pylist():
        warnings[row["path"]] = (*warnings.get(row["path"], ()), row["warning"])
    return {
        (row["raw_sha256"], Path(row["path"]).suffix.lower()): ReadDocument(
            row["path"], row["raw_sha256"], row["bytes"], row["doc_key"], row["characters"],
            row["title"], warnings.get(row["path"], ()), row["metadata"], row["front"],
        )
        for row in rows
        if row["file_key"] in (None, row["doc_key"])  # a part is not what the file reads as
    }  # fmt: skip


def _write(folder: Path, table: schemas.Table, rows: Iterable[dict[str, Any]]) -> None:
    data = pa.Table.from_pylist(list(rows), schema=table.schema)
    pq.write_table(data, folder / f"{table.name}.parquet", compression="zstd")
