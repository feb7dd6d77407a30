"""A bundle's passages as they are searched; a following bundle's take over what stands.

Vectors and token vectors stay in their files, which are mapped. Nodes and terms of a segment are
read once, for as long as bundles have it. What depends on all nodes, the order of their ids and
BM25's weights, is made anew from these.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.evidence import PLACE, Evidence, Neighbours
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.mapped_vectors import MappedVectors, mapped_matrix
from ragft_pipeline.retrieval.terms import Terms
from ragft_pipeline.retrieval.text_vectors import vectors_matrix
from ragft_pipeline.retrieval.token_vectors import MappedTokens, StoredTokens, TokenStore
from ragft_pipeline.serving.bundle import Bundle
from ragft_pipeline.serving.filtering import FilterableNodes
from ragft_pipeline.serving.index_files import NODES, TERMS, TOKENS, VECTORS, index_files
from ragft_pipeline.serving.index_parts import (
    ALONE,
    HEADINGS,
    READ,
    term_kinds,
    terms_made_of,
    texts_of,
)
from ragft_pipeline.settings import Settings
from ragft_pipeline.store.segments import digest_in, read_mapped
from ragft_pipeline.store.tables import read_table, segments_of

_READING_TERMS = Lock()  # indexes share a vocabulary, which grows


@dataclass
class _Segment:
    """What was read of a segment: its nodes, their texts as they are read, their terms."""

    nodes: pa.Table
    read: pa.Array
    terms: dict[str, Terms] = field(default_factory=dict)


class Texts(Sequence[str]):
    """Texts that stay in their columns, in the order of the nodes' ids.

    Args:
        column: string array.
        rows: where each text stands in it.
    """

    def __init__(self, column: pa.ChunkedArray, rows: np.ndarray) -> None:
        self._column, self._rows = column, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        rows = self._rows[place]
        if isinstance(place, slice):
            return [str(self._column[row].as_py()) for row in rows.tolist()]
        return str(self._column[int(rows)].as_py())


class BundleIndex:
    """The nodes of a bundle, and what is stored beside them.

    Args:
        settings: the bundle's.
        before: of another bundle; the segments that both have are not read again.

    Raises RagftError where nodes and what is stored beside them do not match.
    """

    def __init__(
        self, bundle: Bundle, settings: Settings, before: BundleIndex | None = None
    ) -> None:
        self.bundle = bundle
        self._settings = settings
        self._kind = READ if settings.passages.context == "on" else ALONE
        alike = before if before and before._settings.passages == settings.passages else None
        known = alike._segments if alike else {}
        self._files = segments_of(bundle.folder / NODES)
        names = [digest_in(file.name) or "" for file in self._files]
        self._segments: dict[str, _Segment] = {
            name: known.get(name) or self._segment(pq.read_table(file))
            for name, file in zip(names, self._files)
        }
        self._parts = [self._segments[name] for name in names]
        if not self._files:  # format 2
            self._parts = [self._segment(read_table(bundle.folder / NODES))]
        nodes = pa.concat_tables([part.nodes for part in self._parts])
        self.nodes = bundle.with_documents(nodes) if self._files else nodes
        ids = self.nodes.column("node_id")
        self._order = pc.sort_indices(ids).to_numpy().astype(np.int64)  # stable
        ids = ids.take(self._order).combine_chunks()
        new = np.append(True, pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False))
        self._starts = np.append(np.flatnonzero(new[: len(ids)]), len(ids))
        self._rows = self._order[self._starts[1:] - 1]  # where each node stands last
        self.node_ids: list[str] = ids.take(self._starts[:-1]).to_pylist()
        self._vocabulary: dict[str, int] = alike._vocabulary if alike else {}
        self._vectors: dict[str, MappedVectors] = {}

    def _segment(self, nodes: pa.Table) -> _Segment:
        return _Segment(nodes, pa.array(texts_of(nodes, self._kind), pa.string()))

    @cached_property
    def texts(self) -> Texts:
        """The passages alone."""
        return Texts(self.nodes.column("text"), self._rows)

    @cached_property
    def read(self) -> Texts:
        """The passages as models and BM25 read them."""
        if self._kind == ALONE:
            return self.texts
        return Texts(pa.chunked_array([part.read for part in self._parts]), self._rows)

    @cached_property
    def evidence(self) -> Evidence:
        """What a ranker looks at, with BM25 over the passages."""
        passages = self._settings.passages
        if self.bundle.manifest.get("parts", {}).get(TERMS) != terms_made_of(passages):
            return Evidence.of(self.nodes, self._kind == READ, passages.language)
        with _READING_TERMS:
            for part, file in zip(self._parts, self._stored(TERMS)):
                part.terms = part.terms or self._terms(read_mapped(file))

        def index(kind: str, texts: Sequence[str], ordered: bool) -> LexicalIndex:
            whole = Terms.joined([part.terms[kind] for part in self._parts])
            terms = whole.take(self._rows).renumbered()
            return LexicalIndex(texts, language=passages.language, ordered=ordered, terms=terms)

        plain = index(ALONE, self.texts, self._kind == ALONE)
        lexical = index(READ, self.read, True) if self._kind == READ else plain
        titles = index(HEADINGS, self.texts, False)
        around = Neighbours(self.nodes.select(PLACE).take(self._rows))
        lengths = pc.utf8_length(self.nodes.column("text")).to_numpy()[self._rows]
        return Evidence(self.texts, self.read, (plain, lexical, titles), around, lengths)

    def _terms(self, rows: pa.Table) -> dict[str, Terms]:
        found = {}
        for kind in (*term_kinds(self._settings.passages), HEADINGS):
            spoken = rows.column(f"{kind}_language").combine_chunks()
            names = spoken.dictionary.to_pylist()
            languages = [names[at] for at in spoken.indices.to_pylist()]
            lists = rows.column(kind).combine_chunks()
            found[kind] = Terms.of_column(lists, languages, self._vocabulary)
        return found

    def vectors(self, name: str = "") -> MappedVectors:
        """Return the nodes' vectors, by default the retriever's.

        Args:
            name: as the manifest names others.
        """
        name = name or (VECTORS if self._files else f"{VECTORS}.parquet")
        if name not in self._vectors:
            self._vectors[name] = self._read_vectors(name)
        return self._vectors[name]

    def _read_vectors(self, name: str) -> MappedVectors:
        if not self._files:
            table = pq.read_table(self.bundle.folder / name)
            self._require(table.column("text_id").to_pylist() == self.node_ids, "vectors")
            return MappedVectors([vectors_matrix(table)], np.arange(len(self.node_ids)))
        tables = [read_mapped(file) for file in self._stored(name)]
        for rows, part in zip(tables, self._parts):
            ids = part.nodes.column("node_id")
            self._require(rows.column("node_id").equals(ids), "vectors")
        return MappedVectors([mapped_matrix(rows) for rows in tables], self._rows)

    def _stored(self, name: str) -> list[Path]:
        """Return the files of a part, one for each segment."""
        files = index_files(self.bundle.folder / name)
        self._require(len(files) == len(self._parts), name)
        return files

    def _require(self, matching: bool, what: str) -> None:
        if not matching:
            raise RagftError(f"bundle {self.bundle.digest[:12]}: {what} and nodes do not match")

    def tokens(self) -> TokenStore | None:
        """Return the token vectors of the passages as they are read; None of a bundle without."""
        folder = self.bundle.folder / TOKENS
        if not folder.is_dir():
            return None
        if not self._files:
            return StoredTokens.load(folder)
        tables = [read_mapped(file) for file in self._stored(TOKENS)]
        bits = self._settings.late_interaction.bits
        identity = str(self.bundle.manifest["base_identities"]["document"])
        return MappedTokens(tables, bits, identity)

    def place(self, node_id: str) -> int | None:
        """Return the number of a node in the order of the ids; None for one that is not here."""
        at = bisect_left(self.node_ids, node_id)
        return at if at < len(self.node_ids) and self.node_ids[at] == node_id else None

    def shown(self, place: int, among: np.ndarray | None = None) -> list[dict[str, Any]]:
        """Return the NODES rows of a node, with the columns of its document: where its text stands.

        Args:
            among: the rows to look at, bool (rows,); all of them by default.
        """
        rows = self._order[self._starts[place] : self._starts[place + 1]]
        rows = rows if among is None else rows[among[rows]]
        # `take` would put all chunks together first
        return [self.nodes.slice(row, 1).to_pylist()[0] for row in rows.tolist()]

    @cached_property
    def _node_of_row(self) -> np.ndarray:
        numbers = np.empty(len(self._order), np.int64)
        numbers[self._order] = np.repeat(np.arange(len(self.node_ids)), np.diff(self._starts))
        return numbers

    def of_documents(self, documents: Collection[str]) -> np.ndarray:
        """Return which rows of the nodes are of some documents, bool (rows,)."""
        wanted = pa.array(sorted(documents), pa.string())
        found: np.ndarray = pc.is_in(self.nodes.column("doc_key"), wanted).to_numpy()
        return found

    @cached_property
    def filterable(self) -> FilterableNodes:
        """The rows of the nodes, by what metadata filters ask."""
        return FilterableNodes(self.nodes)

    def within(self, rows: np.ndarray) -> np.ndarray:
        """Return the places of the nodes that have one of some rows, int (nodes,)."""
        return np.unique(self._node_of_row[rows])

    def places_of(self, texts: Sequence[str]) -> dict[str, int]:
        """Return the places of the nodes that have these texts, as far as they are here."""
        column = self.nodes.column("text")
        rows = np.flatnonzero(pc.is_in(column, pa.array(list(texts), pa.string())).to_numpy())
        return {column[row].as_py(): int(self._node_of_row[row]) for row in rows.tolist()}

    @cached_property
    def paths(self) -> dict[str, str]:
        """The path of each document that has a node, by doc_key."""
        documents = self.nodes.select(["doc_key", "path"]).group_by("doc_key")
        found = documents.aggregate([("path", "max")])
        return dict(zip(found.column("doc_key").to_pylist(), found.column("path_max").to_pylist()))
