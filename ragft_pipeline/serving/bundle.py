"""The bundle: everything that answers a search, in one folder that never changes.

Layout below the store's root::

    bundles/<digest>/bundle.json        what it is made of, and a SHA-256 of every file
                     nodes.parquet/     the nodes, in segments
                     documents.parquet  the paths of their documents, and what these say about
                                        themselves
                     vectors/           their vectors, as the retriever compares them
                     base_vectors/      the base embedder's, where these are others
                     read_vectors/      the same of passages below their headings, likewise
                     tokens/            their token vectors, for late interaction
                     terms/             their terms, for BM25
                     models/<part>/     the tuned parts
                     routing/           the router, its tools and their descriptions' vectors

The base embedder is named by its digest, not copied. The digest of a bundle is that of its
contents, so the same parts over the same nodes are the same bundle. Bundles share the files that
they have in common, as hard links and as objects (serving.index_files). Those of format 2 have one
file each for nodes and vectors, and are still read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragft_pipeline.corpus.nodes import with_context
from ragft_pipeline.digests import digest_of, file_sha256
from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.identities import SEARCHING, versions
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.index_files import DOCUMENTS, NODES, TOKENS, write_index, write_nodes
from ragft_pipeline.serving.index_parts import index_of
from ragft_pipeline.serving.router_files import (
    ROUTER,
    ROUTING_FOLDER,
    RoutingParts,
    copy_folder,
    write_routing,
)
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
from ragft_pipeline.store.segments import digest_in
from ragft_pipeline.store.tables import read_table

FORMATS = (2, 3)  # the last is what is written
MANIFEST, MODELS_FOLDER = "bundle.json", "models"


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
        if manifest["format"] not in FORMATS:
            known = " and ".join(map(str, FORMATS))
            raise RagftError(f"{folder} has format {manifest['format']}, this reads {known}")
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
        nodes = read_table(self.folder / NODES)
        return nodes if self.manifest["format"] == 2 else self.with_documents(nodes)

    def with_documents(self, nodes: pa.Table) -> pa.Table:
        """Return NODES rows with `path` and `metadata`, empty where a document has none."""
        documents = pq.read_table(self.folder / DOCUMENTS)
        place = pc.index_in(nodes.column("doc_key"), documents.column("doc_key")).combine_chunks()
        for name in ("path", "metadata"):
            values = documents.column(name).combine_chunks().take(place)
            nodes = nodes.append_column(name, values.fill_null(""))
        return nodes

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

    def verify(self, known: Iterable[str] = ()) -> None:
        """Compare every file with its SHA-256; raises RagftError for the first that differs.

        Args:
            known: of files that another bundle shares, and that were compared for that one.
        """
        known = set(known)
        for name, expected in self.manifest["files"].items():
            file = self.folder / name
            whole = file.is_file()
            if not whole or (expected not in known and file_sha256(file) != expected):
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
        nodes: Path,
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
            nodes: where the NODES table of the corpus version lies.
            paths: the path of each document, by doc_key.
            routing: the router and its tools; None for a bundle that does not route.
            metadata: what each document says about itself, as JSON, by doc_key.

        Raises RagftError where an adapter belongs to another base than its embedder.
        """
        models = configuration.models(models)
        with self.store.staging("bundle") as staged:
            _copy_models(models, staged / MODELS_FOLDER)
            write_nodes(nodes, paths, metadata or {}, staged)
            if routing is not None:
                write_routing(staged / ROUTING_FOLDER, routing, settings, work)
            index = index_of(configuration, models, settings, work, routing)
            write_index(staged, index.parts, self.root)
            manifest = {
                "format": FORMATS[-1],
                "version": version,
                "configuration": configuration.to_json(),
                "measured": measured,
                "base_model": settings.embedder.model,
                **index.facts,
                "versions": versions(*SEARCHING[: None if TOKENS in index.facts["parts"] else 1]),
                "settings": {
                    "embedder": settings.embedder.model_dump(mode="json"),
                    "passages": settings.passages.model_dump(mode="json"),
                    "reranker": settings.reranker.model_dump(mode="json"),
                    "late_interaction": settings.late_interaction.model_dump(mode="json"),
                    "dtype": settings.compute.dtype,
                },
                "nodes": sum(map(_rows_of, (staged / NODES).iterdir())),
                "files": {
                    path.relative_to(staged).as_posix(): digest_in(path.name) or file_sha256(path)
                    for path in sorted(staged.rglob("*"))
                    if path.is_file()
                },
            }
            digest = digest_of(manifest)[:32]
            write_json(staged / MANIFEST, manifest)
            self.store.publish_folder(f"bundles/{digest}", staged, MANIFEST)
        return self.load(digest)


def _rows_of(segment: Path) -> int:
    return int(pq.read_metadata(segment).num_rows)


def read(nodes: pa.Table, settings: Settings) -> pa.Table:
    """Return NODES with the texts that models and BM25 read."""
    return with_context(nodes) if settings.passages.context == "on" else nodes


def _copy_models(models: Models, folder: Path) -> None:
    """Give the bundle the models' files, as hard links where the file system allows it."""
    for field in fields(models):
        source = getattr(models, field.name)
        if source is not None:
            copy_folder(source, folder / field.name)


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
