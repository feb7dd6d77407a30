"""The bundle: everything that answers a search, in one folder that never changes.

Layout below the store's root::

    bundles/<digest>/bundle.json        what it is made of, and a SHA-256 of every file
                     nodes.parquet      the nodes, with the paths of their documents and what
                                        these say about themselves
                     vectors.parquet    their vectors, as the retriever compares them
                     base_vectors.parquet   the base embedder's, where these are others
                     read_vectors.parquet   the same of passages below their headings, likewise
                     tokens/            their token vectors, for late interaction
                     models/<part>/     the tuned parts
                     routing/           the router, its tools and their descriptions' vectors

The base embedder is named by its digest, not copied. The digest of a bundle is that of its
contents, so the same parts over the same nodes are the same bundle.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ragft_pipeline.corpus.nodes import node_texts, with_context
from ragft_pipeline.digests import digest_of, file_sha256
from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.systems import BASE
from ragft_pipeline.evaluation.trial import Models
from ragft_pipeline.identities import SEARCHING, versions
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors, vectors_table
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.settings import (
    ComputeSettings,
    EmbedderSettings,
    LateInteractionSettings,
    PassageSettings,
    RerankerSettings,
    Settings,
)
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.store.files import write_json

FORMAT = 2
MANIFEST, NODES_FILE, VECTORS_FILE, BASE_VECTORS_FILE, READ_VECTORS_FILE = (
    "bundle.json", "nodes.parquet", "vectors.parquet", "base_vectors.parquet",
    "read_vectors.parquet",
)  # fmt: skip
TOKENS_FOLDER, MODELS_FOLDER = ("tokens", "models")
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


@dataclass(frozen=True)
class Bundle:
    """A published bundle: its folder and what bundle.json says."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read a bundle's manifest; RagftError where the folder is not a whole bundle."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            raise RagftError(f"{folder} is no bundle: {MANIFEST} is missing or broken") from None
        if manifest["format"] != FORMAT:
            raise RagftError(f"{folder} has format {manifest['format']}, this reads {FORMAT}")
        return cls(folder, manifest)

    @property
    def digest(self) -> str:
        """The bundle's name: a digest of its contents."""
        return self.folder.name

    @property
    def version(self) -> str:
        """The corpus version whose nodes it searches."""
        return str(self.manifest["version"])

    @property
    def configuration(self) -> Configuration:
        """The system it serves."""
        return Configuration(**self.manifest["configuration"])

    @property
    def models(self) -> Models:
        """The folders of its tuned parts."""
        folder = self.folder / MODELS_FOLDER
        return Models(**{part: folder / part for part in self.configuration.parts})

    @property
    def measured(self) -> dict[str, str]:
        """The action of the measured model behind each part, by asset."""
        return dict(self.manifest["measured"])

    @property
    def models_digest(self) -> str:
        """What answers, but for its weights and its documents: the system, what its models were
        measured as, how texts are read. A refit on more documents is the same model.
        """
        passages, base = self.manifest["settings"]["passages"], self.manifest["base_identities"]
        return digest_of([self.configuration.name, self.measured, passages, base])

    def nodes(self) -> pa.Table:
        """Return NODES with the columns `path` and `metadata`; older bundles lack the second."""
        return pq.read_table(self.folder / NODES_FILE)

    @property
    def router(self) -> Path | None:
        """The router's folder; None for a bundle without one."""
        folder = self.folder / ROUTING_FOLDER / ROUTER
        return folder if folder.is_dir() else None

    def settings(self, compute: ComputeSettings) -> Settings:
        """Return the settings it was made with, and this machine's threads and device."""
        kept = self.manifest["settings"]
        return Settings(
            embedder=EmbedderSettings.of_release(kept["embedder"]),
            passages=PassageSettings.of_release(kept["passages"]),
            reranker=RerankerSettings.of_release(kept["reranker"]),
            late_interaction=LateInteractionSettings.of_release(kept["late_interaction"]),
            compute=compute.model_copy(update={"dtype": kept["dtype"]}),
        )

    def require_same_code(self) -> None:
        """Raise RagftError where another version of the code made what it searches with."""
        made = self.manifest.get("versions", {})  # a bundle of before they were recorded: none
        now = versions(*SEARCHING)
        if changed := sorted(name for name in made if made[name] != now.get(name)):
            raise RagftError(
                f"bundle {self.digest[:12]}: another {', '.join(changed)} made it; "
                "run `ragft run` for one of this version"
            )

    def verify(self) -> None:
        """Compare every file with its SHA-256; raises RagftError for the first that differs."""
        for name, expected in self.manifest["files"].items():
            file = self.folder / name
            if not file.is_file() or file_sha256(file) != expected:
                raise RagftError(f"bundle {self.digest[:12]}: {name} is missing or was changed")


class BundleStore:
    """Builds bundles and finds them again."""

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store
        self.root = store.root / "bundles"

    def load(self, digest: str) -> Bundle:
        """Return a published bundle by its digest; RagftError where there is none."""
        self.store.fetch_folder(f"bundles/{digest}", MANIFEST)
        return Bundle.load(self.root / digest)

    def peek(self, digest: str) -> Bundle | None:
        """Return a published bundle, or None where there is none; its files may be elsewhere."""
        try:
            manifest = self.store.card(f"bundles/{digest}", MANIFEST)
        except json.JSONDecodeError:
            return None
        return Bundle(self.root / digest, manifest) if manifest is not None else None

    def build(
        self,
        version: str,
        configuration: Configuration,
        models: Models,
        measured: dict[str, str],
        nodes: pa.Table,
        paths: dict[str, str],
        settings: Settings,
        work: Workspace,
        routing: RoutingParts | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Bundle:
        """Build a bundle and publish it; the existing one where it is the same.

        Args:
            models: the parts to serve; every part of the configuration must be there.
            measured: the action of the measured model behind each part, by asset.
            nodes: the NODES of the corpus version.
            paths: the path of each document, by doc_key.
            routing: the router and its tools; None for a bundle that does not route.
            metadata: what each document says about itself, as JSON, by doc_key.

        Raises RagftError where an adapter belongs to another base than its embedder.
        """
        models = configuration.models(models)
        with self.store.staging("bundle") as staged:
            _copy_models(models, staged / MODELS_FOLDER)
            keys = nodes.column("doc_key").to_pylist()
            shown = nodes.append_column("path", [[paths.get(key, "") for key in keys]])
            said = [(metadata or {}).get(key, "") for key in keys]
            pq.write_table(shown.append_column("metadata", [said]), staged / NODES_FILE)
            index = _write_index(staged, configuration, models, nodes, settings, work)
            if routing is not None:
                _write_routing(staged / ROUTING_FOLDER, routing, nodes, settings, work)
            has_tokens = (staged / TOKENS_FOLDER).is_dir()
            manifest = {
                "format": FORMAT,
                "version": version,
                "configuration": configuration.to_json(),
                "measured": measured,
                "base_model": settings.embedder.model,
                **index,
                "versions": versions(*SEARCHING[: None if has_tokens else 1]),
                "settings": {
                    "embedder": settings.embedder.model_dump(mode="json"),
                    "passages": settings.passages.model_dump(mode="json"),
                    "reranker": settings.reranker.model_dump(mode="json"),
                    "late_interaction": settings.late_interaction.model_dump(mode="json"),
                    "dtype": settings.compute.dtype,
                },
                "nodes": nodes.num_rows,
                "files": {
                    path.relative_to(staged).as_posix(): file_sha256(path)
                    for path in sorted(staged.rglob("*"))
                    if path.is_file()
                },
            }
            digest = digest_of(manifest)[:32]
            write_json(staged / MANIFEST, manifest)
            self.store.publish_folder(f"bundles/{digest}", staged, MANIFEST)
        return self.load(digest)


def retriever_parts(
    configuration: Configuration, models: Models, settings: Settings
) -> tuple[Encoder, Path | None]:
    """Return the encoder of a configuration's retriever, and its adapter's folder if it has one."""
    if "tuned_embedder" in configuration.parts:
        assert models.tuned_embedder is not None
        encoder = Encoder.tuned(models.tuned_embedder, settings.embedder, settings.compute)
        return encoder, models.stacked_adapter
    return Encoder.base(settings.embedder, settings.compute), models.adapter


def _write_index(
    folder: Path,
    configuration: Configuration,
    models: Models,
    nodes: pa.Table,
    settings: Settings,
    work: Workspace,
) -> dict[str, Any]:
    """Write vectors and token vectors; return what the encoders that made them are.

    The base embedder's vectors come along where the retriever compares others: of the passages
    alone, which the untuned system and a ranker compare, and of passages as they are read, which a
    router compares. They are cached rows, mostly.
    """
    alone, texts = node_texts(nodes), node_texts(read(nodes, settings))
    encoder, adapter = retriever_parts(configuration, models, settings)
    own = alone if configuration.retriever == BASE else texts
    ids, vectors = cached_vectors(work, encoder, own, "document")
    if adapter is not None:
        vectors = load_adapter(adapter, encoder.weights.digest).documents(vectors)
    base = Encoder.base(settings.embedder, settings.compute)
    written: dict[str, np.ndarray] = {}

    def write(name: str, matrix: np.ndarray) -> str:
        """Write vectors unless they are already there; return their file's name."""
        for known, other in written.items():
            if np.array_equal(matrix, other):
                return known
        written[name] = matrix
        pq.write_table(vectors_table(ids, ids, np.ascontiguousarray(matrix)), folder / name)
        return name

    write(VECTORS_FILE, vectors)
    if "late_interaction" in configuration.parts:
        _write_tokens(folder, base, nodes, settings, work)
    return {
        "identities": _identities(encoder),
        "base_identities": _identities(base),
        "base_vectors": write(BASE_VECTORS_FILE, cached_vectors(work, base, alone, "document")[1]),
        "read_vectors": write(READ_VECTORS_FILE, cached_vectors(work, base, texts, "document")[1]),
    }


def read(nodes: pa.Table, settings: Settings) -> pa.Table:
    """Return NODES with the texts that models and BM25 read."""
    return with_context(nodes) if settings.passages.context == "on" else nodes


def _write_tokens(
    folder: Path, base: Encoder, nodes: pa.Table, settings: Settings, work: Workspace
) -> None:
    from ragft_pipeline.retrieval.token_vectors import cached_tokens

    passages = list(node_texts(read(nodes, settings)).values())
    bits = settings.late_interaction.bits
    cached_tokens(work, base, passages, bits).save(folder / TOKENS_FOLDER)


def _write_routing(
    folder: Path, routing: RoutingParts, nodes: pa.Table, settings: Settings, work: Workspace
) -> None:
    """Write the router, its tools, and the base embedder's vectors of their descriptions."""
    from ragft_pipeline.routing.catalog import describing
    from ragft_pipeline.routing.choosing import LATE_INTERACTION
    from ragft_pipeline.routing.router import Router

    _copy_folder(routing.router, folder / ROUTER)
    base = Encoder.base(settings.embedder, settings.compute)
    name = Router.load(routing.router, base.weights.digest).second_opinion
    if name:
        _copy_folder(routing.scorers[name], folder / name)
    if name == LATE_INTERACTION and not (folder.parent / TOKENS_FOLDER).is_dir():
        _write_tokens(folder.parent, base, nodes, settings, work)
    pq.write_table(routing.catalog, folder / TOOLS_FILE)
    ids, vectors = cached_vectors(work, base, describing(routing.catalog), "document")
    pq.write_table(vectors_table(ids, ids, vectors), folder / TOOL_VECTORS_FILE)


def _identities(encoder: Encoder) -> dict[str, str]:
    return {"query": encoder.identity("query"), "document": encoder.identity("document")}


def _copy_models(models: Models, folder: Path) -> None:
    """Give the bundle the models' files, as hard links where the file system allows it."""
    for field in fields(models):
        source = getattr(models, field.name)
        if source is not None:
            _copy_folder(source, folder / field.name)


def _copy_folder(source: Path, target: Path) -> None:
    for file in sorted(source.rglob("*")):
        relative = file.relative_to(source)
        if file.is_file() and relative.parts[0] != "checkpoints":
            place = target / relative
            place.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(file, place)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file; a copy where a hard link is not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def describe(bundle: Bundle) -> dict[str, Any]:
    """Return what a person wants to know of a bundle, as plain values."""
    return {
        "bundle": bundle.digest,
        "version": bundle.version,
        "system": bundle.configuration.name,
        **{key: value for key, value in asdict(bundle.configuration).items() if value},
        "nodes": bundle.manifest["nodes"],
        "base_model": bundle.manifest["base_model"],
    }
