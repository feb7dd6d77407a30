"""Documents to nodes: each cut once; a text of several splits belongs to the most protected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.compute import RowFunction
from ragft_pipeline.corpus.splits import PROTECTION
from ragft_pipeline.corpus.splitting import Splitter
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.weights import Weights, found_here
from ragft_pipeline.settings import ChunkingSettings
from ragft_pipeline.store import RowCache, Workspace
from ragft_pipeline.store.tables import read_table, rows_of

_DOCUMENTS_AT_ONCE = 256
CHUNKER_VERSION = 3  # raise it when some document would be cut otherwise
_DOCUMENT_NODES = pa.schema(
    [
        ("row_key", pa.string()),
        (
            "nodes",
            pa.list_(
                pa.struct(
                    [
                        ("text", pa.string()),
                        ("heading_path", pa.list_(pa.string())),
                        ("start", pa.int64()),
                        ("end", pa.int64()),
                        ("tokens", pa.int64()),
                    ]
                )
            ),
        ),
    ]
)


@dataclass(frozen=True)
class FrozenDocument:
    """A document of a corpus version, as chunking needs it."""

    doc_key: str
    markdown: bool
    title: str
    cluster: str
    split: str
    text: Callable[[], str]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the text itself: another machine may not see the store."""
        held = partial(str, self.text())
        own = (self.doc_key, self.markdown, self.title, self.cluster, self.split, held)
        return FrozenDocument, own


def node_id_of(text: str) -> str:
    """Return the id of a node: a hash of its text, so that it survives every re-run and rename."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load_tokenizer(weights: Weights) -> Callable[[str], list[int]]:
    """Return the model's tokenizer as a function of text, without loading torch where it can."""
    file = weights.folder / "tokenizer.json"
    if file.is_file():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # encode_batch_fast leaves out the characters' places, which nobody asks for
        return lambda text: list(
            tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        )
    from transformers import AutoTokenizer

    try:
        slow = AutoTokenizer.from_pretrained(str(weights.folder), local_files_only=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RagftError(f"model {weights.name!r} has no usable tokenizer: {first[:200]}") from None
    return lambda text: list(slow.encode(text, add_special_tokens=False, verbose=False))


def chunk_documents(
    documents: Sequence[FrozenDocument],
    guarded: Sequence[FrozenDocument],
    settings: ChunkingSettings,
    weights: Weights,
    work: Workspace,
) -> pa.RecordBatchReader:
    """Return the NODES of a corpus version, cutting only documents never cut before.

    A text that stands, or ever stood, in documents of several splits belongs to the most
    protected one: what was in test does not come to train by way of another document.

    The documents are cut by this call, and the reader makes the table's batches from them: of the
    corpus, what was cut is in memory, once.

    Args:
        documents: the version's documents; one entry a distinct text.
        guarded: documents of earlier versions whose texts stay protected by their split.
        settings: node size and overlap in tokens of `weights`' tokenizer.
    """
    every = {_row_key(doc): doc for doc in (*guarded, *documents)}
    cache = _cut_rows(settings, weights, work)
    parts = list(cache.batches([*documents, *guarded], _row_key, Cut(settings, weights), 64))
    return _node_rows(documents, _protected(parts, every)[0])


def _cut_rows(settings: ChunkingSettings, weights: Weights, work: Workspace) -> RowCache:
    row_settings = digest_of(CHUNKER_VERSION, settings.digest(), weights.digest)
    return work.rows("document_nodes", row_settings, _DOCUMENT_NODES, family="*")


@dataclass(frozen=True)
class Chunked:
    """An earlier version, cut: its documents, those it guarded, its NODES, and what they lie in."""

    documents: Sequence[FrozenDocument]
    guarded: Sequence[FrozenDocument]
    nodes: Path
    artifact: Path


def chunk_changes(
    documents: Sequence[FrozenDocument],
    guarded: Sequence[FrozenDocument],
    earlier: Chunked,
    settings: ChunkingSettings,
    weights: Weights,
    work: Workspace,
) -> tuple[pa.Array, pa.Table]:
    """Return the documents whose NODES differ from an earlier version's, and their NODES now.

    With the others' NODES that is what `chunk_documents` returns.
    """
    new, old = ({doc.doc_key: doc for doc in docs} for docs in (documents, earlier.documents))
    touched = {
        key for key in new.keys() | old.keys() if _described(new, key) != _described(old, key)
    }
    changed = [new[key] for key in sorted(touched & new.keys())]
    now = {_row_key(doc): doc for doc in (*guarded, *changed)}
    lifted = [doc for doc in earlier.guarded if _row_key(doc) not in now]
    cache = _cut_rows(settings, weights, work)
    work.inherit(earlier.artifact)
    work.count("rows_reused", len(new) - len(changed))
    wanted = [*changed, *guarded, *lifted]
    parts = list(cache.batches(wanted, _row_key, Cut(settings, weights), 64))
    places = read_table(earlier.nodes, ("node_id", "doc_key", "split"))
    of_touched = pc.is_in(places.column("doc_key"), pa.array(touched, pa.string()))
    ids = [*_named(parts)[0], *places.filter(of_touched).column("node_id").chunks]
    shared = pc.is_in(places.column("node_id"), pa.chunked_array(ids, pa.string()).unique())
    elsewhere = places.filter(pc.and_not(shared, of_touched))
    cut, strictest = _protected(parts, now, elsewhere, new)
    split_of = strictest.__getitem__
    moved = {
        row["doc_key"] for row in elsewhere.to_pylist() if row["split"] != split_of(row["node_id"])
    }
    others = rows_of(earlier.nodes, "doc_key", pa.array(moved, pa.string()))
    pairs = zip(others.column("node_id").to_pylist(), others.column("split").to_pylist())
    splits = pa.array([strictest.get(node_id, split) for node_id, split in pairs], pa.string())
    place = others.schema.get_field_index("split")
    others = others.set_column(place, others.schema.field(place), splits)
    rows = pa.concat_tables([_node_rows(changed, cut).read_all(), others])
    order = np.argsort(np.array(rows.column("doc_key").to_pylist(), str), kind="stable")
    return pa.array(sorted(touched | moved), pa.string()), rows.take(pa.array(order))


def _described(documents: Mapping[str, FrozenDocument], doc_key: str) -> tuple[Any, ...] | None:
    doc = documents.get(doc_key)
    return None if doc is None else (doc.markdown, doc.title, doc.cluster, doc.split)


def _named(parts: Sequence[pa.Table]) -> tuple[list[pa.Array], list[np.ndarray]]:
    """Return the ids of each part's nodes, end to end, and how many each document has."""
    ids, counts = [], []
    for part in parts:
        lists = part.column("nodes").combine_chunks()
        texts = pc.struct_field(lists.flatten(), "text").to_pylist()
        ids.append(pa.array([node_id_of(text) for text in texts], pa.string()))
        counts.append(pc.list_value_length(lists).to_numpy())
    return ids, counts


def _protected(
    parts: Sequence[pa.Table],
    documents: Mapping[str, FrozenDocument],
    elsewhere: pa.Table | None = None,
    holders: Mapping[str, FrozenDocument] | None = None,
) -> tuple[dict[str, tuple[pa.Table, int, int]], dict[str, str]]:
    """Return where each document's nodes are, by row key: a table, the first row, how many.

    And, where other documents are given, the split of each node.

    Args:
        documents: by row key; what others hold protects nothing.
        elsewhere: node_id and doc_key of the same nodes in more documents, `holders` by doc_key.
    """
    ids, counts = _named(parts)
    ranks = []
    for part, own_counts in zip(parts, counts):
        found = [documents.get(row_key) for row_key in part.column("row_key").to_pylist()]
        splits = [PROTECTION.index(doc.split if doc else "train") for doc in found]
        ranks.append(np.repeat(np.array(splits, np.int8), own_counts))
    more = elsewhere.column("node_id").chunks if elsewhere is not None else []
    if elsewhere is not None and holders is not None:
        keys = elsewhere.column("doc_key").to_pylist()
        ranks.append(np.array([PROTECTION.index(holders[key].split) for key in keys], np.int8))
    held = pa.chunked_array([*ids, *more], pa.string()).combine_chunks().dictionary_encode()
    place = held.indices.to_numpy()
    strictest = np.full(len(held.dictionary), PROTECTION.index("train"), np.int8)
    np.minimum.at(strictest, place, np.concatenate([np.empty(0, np.int8), *ranks]))
    splits = pa.DictionaryArray.from_arrays(strictest, pa.array(PROTECTION)).cast(pa.string())
    of_nodes = splits.take(held.indices)
    cut: dict[str, tuple[pa.Table, int, int]] = {}
    start = 0
    for part, own_ids, own_counts in zip(parts, ids, counts):
        nodes = part.column("nodes").combine_chunks().flatten()
        names = ("text", "heading_path", "start", "end", "tokens")
        flat = pa.table(
            {
                "node_id": own_ids,
                "split": of_nodes.slice(start, len(own_ids)),
                **{name: pc.struct_field(nodes, name) for name in names},
            }
        )
        start += len(own_ids)
        ends = np.cumsum(own_counts)
        for row, row_key in enumerate(part.column("row_key").to_pylist()):
            cut[row_key] = flat, int(ends[row] - own_counts[row]), int(own_counts[row])
    if elsewhere is None:
        return cut, {}
    return cut, dict(zip(held.dictionary.to_pylist(), splits.to_pylist()))


def _node_rows(
    documents: Sequence[FrozenDocument], nodes: Mapping[str, tuple[pa.Table, int, int]]
) -> pa.RecordBatchReader:
    schema = schemas.NODES.schema

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(documents), _DOCUMENTS_AT_ONCE):
            block = documents[start : start + _DOCUMENTS_AT_ONCE]
            cut = [table.slice(*rows) for table, *rows in (nodes[_row_key(doc)] for doc in block)]
            of = pa.array(np.repeat(np.arange(len(block)), [table.num_rows for table in cut]))
            table = pa.concat_tables(cut)
            names = ("doc_key", "cluster", "title")
            own = {name: pa.array([getattr(doc, name) for doc in block]).take(of) for name in names}
            columns = {name: table.column(name) for name in table.column_names} | own
            columns |= {"start_char": columns["start"], "end_char": columns["end"]}
            columns["heading_path"] = _below_title(columns["heading_path"], columns["title"])
            rows = pa.table({name: columns[name] for name in schema.names}).cast(schema)
            yield from rows.combine_chunks().to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _below_title(paths: pa.ChunkedArray, titles: pa.Array) -> pa.Array:
    """Return heading paths without the document's title, which its nodes have beside them."""
    pairs = zip(paths.to_pylist(), titles.to_pylist())
    below = [path[1:] if path and path[0] == title else path for path, title in pairs]
    return pa.array(below, paths.type)


@dataclass(frozen=True)
class Cut(RowFunction[FrozenDocument]):
    """The nodes of documents, a row a document."""

    seconds: ClassVar[float] = 0.05
    settings: ChunkingSettings
    weights: Weights

    @cached_property
    def splitter(self) -> Splitter:
        """The splitter, made at the first call."""
        return Splitter(self.settings, load_tokenizer(found_here(self.weights)))

    def __call__(self, units: Sequence[FrozenDocument]) -> pa.Table:
        """Cut the documents."""
        rows = [
            {"row_key": _row_key(one), "nodes": self.splitter.cut(one.text(), one.markdown)}
            for one in units
        ]
        return pa.Table.from_pylist(rows, schema=_DOCUMENT_NODES)


def _row_key(document: FrozenDocument) -> str:
    return digest_of(document.doc_key, document.markdown)
