"""Documents to nodes: each cut once; a text of several splits belongs to the most protected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
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
from ragft_pipeline.store import Workspace

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
    row_settings = digest_of(CHUNKER_VERSION, settings.digest(), weights.digest)
    cache = work.rows("document_nodes", row_settings, _DOCUMENT_NODES, family="*")
    every = {_row_key(doc): doc for doc in (*guarded, *documents)}
    parts = list(cache.batches([*documents, *guarded], _row_key, Cut(settings, weights), 64))
    return _node_rows(documents, _protected(parts, every))


def _protected(
    parts: Sequence[pa.Table], documents: Mapping[str, FrozenDocument]
) -> dict[str, tuple[pa.Table, int, int]]:
    """Return where each document's nodes are, by row key: a table, the first row, how many."""
    ids, ranks, counts = [], [], []
    for part in parts:
        lists = part.column("nodes").combine_chunks()
        texts = pc.struct_field(lists.flatten(), "text").to_pylist()
        ids.append(pa.array([node_id_of(text) for text in texts], pa.string()))
        counts.append(pc.list_value_length(lists).to_numpy())
        splits = [documents[row_key].split for row_key in part.column("row_key").to_pylist()]
        rank = np.array([PROTECTION.index(split) for split in splits], np.int8)
        ranks.append(np.repeat(rank, counts[-1]))
    held = pa.chunked_array(ids, pa.string()).combine_chunks().dictionary_encode()
    place = held.indices.to_numpy()
    strictest = np.full(len(held.dictionary), PROTECTION.index("train"), np.int8)
    np.minimum.at(strictest, place, np.concatenate([np.empty(0, np.int8), *ranks]))
    splits = pa.DictionaryArray.from_arrays(strictest[place], pa.array(PROTECTION)).cast(
        pa.string()
    )
    found: dict[str, tuple[pa.Table, int, int]] = {}
    start = 0
    for part, own_ids, own_counts in zip(parts, ids, counts):
        nodes = part.column("nodes").combine_chunks().flatten()
        names = ("text", "heading_path", "start", "end", "tokens")
        flat = pa.table(
            {
                "node_id": own_ids,
                "split": splits.slice(start, len(own_ids)),
                **{name: pc.struct_field(nodes, name) for name in names},
            }
        )
        start += len(own_ids)
        ends = np.cumsum(own_counts)
        for row, row_key in enumerate(part.column("row_key").to_pylist()):
            found[row_key] = flat, int(ends[row] - own_counts[row]), int(own_counts[row])
    return found


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
