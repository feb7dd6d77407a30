"""A bundle's index on the disk: its nodes in segments, and beside each segment what is searched.

Every part of the index is a folder with one file for each segment of nodes, row by row. Such a file
follows from the segment and from what the part is made of (an encoder, an adapter, a language), so
a bundle takes from the others on this machine the files of segments that it shares with them, and
makes the rest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ragft_pipeline import schemas
from ragft_pipeline.store.segments import digest_in, share, write_mapped
from ragft_pipeline.store.tables import read_table, segments_of

NODES, DOCUMENTS = "nodes.parquet", "documents.parquet"
VECTORS, BASE_VECTORS, READ_VECTORS = "vectors", "base_vectors", "read_vectors"
TOKENS, TERMS = "tokens", "terms"
_DOCUMENTS = pa.schema([(name, pa.string()) for name in ("doc_key", "path", "metadata")])

Segments = Sequence[pa.Table]  # of nodes


@dataclass(frozen=True)
class Part:
    """What is stored beside the nodes.

    Attributes:
        name: of its folder.
        made_of: a digest of what decides it, beside the nodes.
        make: returns the rows of some segments.
        at_once: how many nodes it is asked about at a time.
        compression: of files that are read whole.
    """

    name: str
    made_of: str
    make: Callable[[Segments], list[pa.Table]]
    at_once: int = 65_536
    compression: str | None = None


def write_nodes(nodes: Path, paths: dict[str, str], metadata: dict[str, str], folder: Path) -> None:
    """Write a NODES table, and what its documents are.

    Args:
        nodes: where the table lies; its segments are shared.
        paths, metadata: of documents, by doc_key.
    """
    target = folder / NODES
    if not segments_of(nodes):  # of before tables had segments
        schemas.NODES.layout.write(read_table(nodes), target)
    else:
        target.mkdir()
        for file in segments_of(nodes):
            if not share(file, target / file.name):
                shutil.copyfile(file, target / file.name)
    keys = sorted(paths)
    columns = [keys, [paths[key] for key in keys], [metadata.get(key, "") for key in keys]]
    documents = pa.table(columns, schema=_DOCUMENTS)
    pq.write_table(documents, folder / DOCUMENTS, compression="zstd")


def write_index(folder: Path, parts: Sequence[Part], bundles: Path) -> None:
    """Write parts beside the nodes of a folder.

    Args:
        bundles: the folder with other bundles.
    """
    files = segments_of(folder / NODES)
    known = _known(bundles, {part.made_of for part in parts})
    for part in parts:
        target = folder / part.name
        target.mkdir()
        missing = []
        for number, file in enumerate(files):
            there = known.get((part.made_of, digest_in(file.name)))
            if there is None or not share(there, target / f"{number:06d}-{_digest(there)}.arrow"):
                missing.append((number, file))
        for numbers, nodes in _blocks(missing, part.at_once):
            for number, rows in zip(numbers, part.make(nodes)):
                write_mapped(rows, target, number, part.compression)


def _known(bundles: Path, wanted: set[str]) -> dict[tuple[str, str | None], Path]:
    """Return the files of other bundles, by what they are made of and their segment of nodes."""
    found: dict[tuple[str, str | None], Path] = {}
    for manifest in bundles.glob("[!.]*/bundle.json"):
        try:
            made = dict(json.loads(manifest.read_bytes()).get("parts", {}))
        except (ValueError, FileNotFoundError):  # broken, or removed at this moment
            continue
        nodes = [digest_in(file.name) for file in segments_of(manifest.parent / NODES)]
        for name, made_of in made.items():
            files = index_files(manifest.parent / name)
            if made_of in wanted and len(files) == len(nodes):
                found |= {(made_of, digest): file for digest, file in zip(nodes, files)}
    return found


def _digest(file: Path) -> str:
    return digest_in(file.name) or ""


def index_files(folder: Path) -> list[Path]:
    """Return a part's files, in the order of the segments of nodes."""
    return sorted(folder.glob("*.arrow"))


def _blocks(
    files: Sequence[tuple[int, Path]], at_once: int
) -> Iterator[tuple[list[int], list[pa.Table]]]:
    """Yield segments of nodes with their numbers, about so many rows at a time."""
    numbers: list[int] = []
    nodes: list[pa.Table] = []
    for number, file in files:
        numbers.append(number)
        nodes.append(pq.read_table(file))
        if sum(map(len, nodes)) >= at_once:
            yield numbers, nodes
            numbers, nodes = [], []
    if numbers:
        yield numbers, nodes
