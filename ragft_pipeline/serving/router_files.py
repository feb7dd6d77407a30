"""A bundle's router on the disk, with its tools and who gives it a second opinion."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.text_vectors import cached_vectors, vectors_table
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

ROUTING_FOLDER, ROUTER, TOOLS_FILE, TOOL_VECTORS_FILE = (
    "routing", "router", "tools.parquet", "tool_vectors.parquet",
)  # fmt: skip


@dataclass(frozen=True)
class RoutingParts:
    """What a bundle routes with.

    Attributes:
        router: the router's folder.
        scorers: folders of those whose second opinion the router may count on, by name; the bundle
            takes the one that it does count on.
        catalog: TOOL_CATALOG of the bundle's documents.
    """

    router: Path
    scorers: dict[str, Path]
    catalog: pa.Table


def write_routing(folder: Path, routing: RoutingParts, settings: Settings, work: Workspace) -> None:
    """Write the router, its tools, and the base embedder's vectors of their descriptions."""
    from ragft_pipeline.routing.catalog import describing

    copy_folder(routing.router, folder / ROUTER)
    base = Encoder.base(settings.embedder, settings.compute)
    if name := _second_opinion(routing, base):
        copy_folder(routing.scorers[name], folder / name)
    pq.write_table(routing.catalog, folder / TOOLS_FILE)
    ids, vectors = cached_vectors(work, base, describing(routing.catalog), "document")
    pq.write_table(vectors_table(ids, ids, vectors), folder / TOOL_VECTORS_FILE)


def asks_late_interaction(routing: RoutingParts, base: Encoder) -> bool:
    """Whether a router counts on late interaction, over this embedder."""
    from ragft_pipeline.routing.choosing import LATE_INTERACTION

    return _second_opinion(routing, base) == LATE_INTERACTION


def _second_opinion(routing: RoutingParts, base: Encoder) -> str:
    from ragft_pipeline.routing.router import Router

    return Router.load(routing.router, base.weights.digest).second_opinion


def copy_folder(source: Path, target: Path) -> None:
    """Give a folder's files another name each, but for the checkpoints of a training."""
    for file in sorted(source.rglob("*")):
        relative = file.relative_to(source)
        if file.is_file() and relative.parts[0] != "checkpoints":
            place = target / relative
            place.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(file, place)


def _link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file; a copy where a hard link is not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
