"""A bundle as what is published, and as who asks: its points, and its own encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ragft_pipeline.corpus.document_metadata import from_json
from ragft_pipeline.corpus.nodes import nearest_heading, node_texts
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.weights import folder_digest
from ragft_pipeline.publishing.content import About, Content
from ragft_pipeline.publishing.extras import Extras, Tokens
from ragft_pipeline.publishing.manifest import DENSE, TOKENS, WORDS, Manifest
from ragft_pipeline.publishing.opening import open_target
from ragft_pipeline.publishing.planning import Plan, plan
from ragft_pipeline.publishing.points import Passage
from ragft_pipeline.publishing.publication import Published, publish, sampled
from ragft_pipeline.publishing.target import Target
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.encoder import Encoder, prompt_of
from ragft_pipeline.retrieval.evidence import LATE_INTERACTION
from ragft_pipeline.retrieval.metadata_fields import fields_of, typed
from ragft_pipeline.serving.bundle import Bundle, read
from ragft_pipeline.serving.index import BundleIndex
from ragft_pipeline.serving.index_parts import retriever_parts
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import ComputeSettings, Settings, TargetSettings

Progress = Callable[[str], None]
_TOP = 10


class BundleEncoder:
    """Questions and passages as a bundle's dense retriever compares them; loads at first use.

    Raises RagftError, at first use, where the base model is no longer the one of the bundle.
    """

    def __init__(self, bundle: Bundle, compute: ComputeSettings) -> None:
        self._bundle = bundle
        self.settings: Settings = bundle.settings(compute)
        self.encoder, self._adapter_folder = retriever_parts(
            bundle.configuration, bundle.models, self.settings
        )

    @property
    def identity(self) -> str:
        """A digest of all that decides a text's vector."""
        adapter = folder_digest(self._adapter_folder) if self._adapter_folder else ""
        return digest_of(self._bundle.manifest["identities"], adapter)

    @property
    def adapted(self) -> bool:
        """Whether an adapter maps the vectors."""
        return self._adapter_folder is not None

    @cached_property
    def _adapter(self) -> Any:
        made = self._bundle.manifest["identities"]
        if any(self.encoder.identity(kind) != made[kind] for kind in ("query", "document")):
            raise RagftError(
                f"bundle {self._bundle.digest[:12]}: its vectors are not of the encoder "
                f"{self._bundle.manifest['base_model']!r} as it is now"
            )
        folder = self._adapter_folder
        return load_adapter(folder, self.encoder.weights.digest) if folder else None

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return questions' vectors, float32 of shape (texts, width)."""
        adapter = self._adapter
        vectors = self.encoder.encode(texts, "query")
        return vectors if adapter is None else np.asarray(adapter.queries(vectors))

    def documents(self, texts: Sequence[str]) -> np.ndarray:
        """Return passages' vectors, float32 of shape (texts, width)."""
        adapter = self._adapter
        vectors = self.encoder.encode(texts, "document")
        return vectors if adapter is None else np.asarray(adapter.documents(vectors))

    def about(self) -> About:
        """Return what a manifest says of the bundle."""
        bundle, embedder = self._bundle, self.settings.embedder
        return About(
            bundle=bundle.digest,
            version=bundle.version,
            system=bundle.configuration.name,
            embedder=self.identity,
            base_model=str(bundle.manifest["base_model"]),
            prompts={
                kind: prompt_of(self.encoder.weights, embedder, kind)
                for kind in ("query", "document")
            },
            max_tokens=embedder.max_tokens,
            adapter=self.adapted,
            dense_weight=bundle.configuration.dense_weight,
        )


def passages_of(bundle: Bundle, settings: Settings) -> tuple[list[Passage], dict[str, str]]:
    """Return a bundle's nodes, ordered by id, and the fields of what their documents say.

    A node that stands in several documents is there once, with what one of them says.
    """
    nodes = bundle.nodes()
    texts = node_texts(read(nodes, settings))
    rows = {row["node_id"]: row for row in nodes.to_pylist()}
    said = {key: from_json(row.get("metadata")) for key, row in rows.items()}
    fields = fields_of(said.values())
    found = []
    for node_id in sorted(rows):
        row = rows[node_id]
        about = {"path": row["path"], "title": row["title"], "heading": nearest_heading(row)}
        about |= typed(said[node_id], fields)
        found.append(Passage(node_id, row["doc_key"], row["text"], texts[node_id], about))
    return found, fields


def content_of(
    bundle: Bundle, encoder: BundleEncoder, parts: Sequence[str] = (), mean_length: float = 0.0
) -> Content:
    """Return a bundle's points.

    Args:
        parts: what the store is to hold beside dense vectors: `words`, `tokens`.
        mean_length: by which the generation before weighs its words; 0 where there is none.
    """
    passages, fields = passages_of(bundle, encoder.settings)
    index = BundleIndex(bundle, encoder.settings)
    extras = None
    if WORDS in parts:
        settings = encoder.settings
        tokens, stored = None, index.tokens() if TOKENS in parts else None
        if stored is not None:
            base = Encoder.base(settings.embedder, settings.compute)
            tokens = Tokens(stored, base.identity("document"))
        texts = [passage.read for passage in passages]
        extras = Extras.of(texts, settings.passages.language, tokens, mean_length)
    return Content(encoder.about(), passages, index.vectors()[:], extras, fields)


def content_for(
    target: Target, settings: TargetSettings, bundle: Bundle, encoder: BundleEncoder
) -> Content:
    """Return a bundle's points as a target is to hold them."""
    parts = target.holds if settings.parts == "all" else ()
    live = target.state().live
    return content_of(bundle, encoder, parts, live.mean_length if live else 0.0)


def publish_bundle(
    settings: TargetSettings,
    bundle: Bundle,
    compute: ComputeSettings,
    locks: Path,
    progress: Progress = lambda line: None,
) -> Published:
    """Make a bundle what a target's readers search; see publication.publish."""
    encoder = BundleEncoder(bundle, compute)
    target = open_target(settings, locks)
    try:
        content = content_for(target, settings, bundle, encoder)
        done = publish(target, content, encoder.queries, progress)
        if done.event == "sync":
            agreed = agreement(target, done.manifest, Searcher(bundle, compute), sampled(content))
            done = replace(done, agreement=agreed)
        return done
    finally:
        target.close()


def agreement(
    target: Target, made: Manifest, searcher: Searcher, questions: Sequence[str]
) -> dict[str, float]:
    """Return how much of what is served a store answers: mean share of the best ten in common.

    By each search that the store can do: `dense`, `hybrid`, and `late interaction` over the
    hybrid's candidates. The served system may do more: a ranker weighs more evidence than these.
    """
    late: Any = searcher.scorers.get(LATE_INTERACTION)
    shared: dict[str, list[float]] = {}
    for question, vector in zip(questions, searcher.query_vectors(questions)):
        found = {DENSE: target.search(made, vector, _TOP)}
        if WORDS in made.parts:
            found["hybrid"] = target.search_hybrid(made, question, vector, _TOP)
        if TOKENS in made.parts and late is not None:
            found[LATE_INTERACTION] = target.search_hybrid(
                made, question, vector, _TOP, tokens=late.asked(question)
            )
        served = {hit.text for hit in searcher.search(question, _TOP)}
        for name, hits in found.items():
            common = len(served & {hit.text for hit in hits}) / max(1, len(served))
            shared.setdefault(name, []).append(common)
    return {name: round(sum(each) / len(each), 3) for name, each in shared.items()}


def plan_bundle(
    settings: TargetSettings, bundle: Bundle, compute: ComputeSettings, locks: Path
) -> Plan:
    """Return what publish_bundle would do; nothing is written, and no model is loaded."""
    encoder = BundleEncoder(bundle, compute)
    target = open_target(settings, locks)
    try:
        content = content_for(target, settings, bundle, encoder)
        return plan(target, content, target.state())
    finally:
        target.close()
