"""Search with one bundle: what evaluation measures in batches, for one question at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ragft_pipeline.corpus.nodes import nearest_heading
from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.ranking import Ranking
from ragft_pipeline.evaluation.second_stages import PairScorer, by_scores
from ragft_pipeline.evaluation.systems import BASE
from ragft_pipeline.retrieval.adapters import Adapter, load_adapter
from ragft_pipeline.retrieval.encoder import Encoder, vectors_matrix
from ragft_pipeline.retrieval.evidence import CROSS_ENCODER, LATE_INTERACTION, Evidence
from ragft_pipeline.retrieval.ranker import Ranker
from ragft_pipeline.retrieval.reranking import Reranker
from ragft_pipeline.retrieval.search import MIDDLE, fuse
from ragft_pipeline.retrieval.threads import lone_threads
from ragft_pipeline.serving.bundle import TOKENS_FOLDER, VECTORS_FILE, Bundle, retriever_parts
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.routing import load_tool_router
from ragft_pipeline.settings import ComputeSettings, Settings

if TYPE_CHECKING:
    from ragft_pipeline.routing.router import Route
    from ragft_pipeline.routing.tool_router import ToolRouter

Result = TypeVar("Result")


@dataclass(frozen=True)
class Hit:
    """A passage that answers: its score, and the same passage's score in each part.

    Scores of different questions or bundles do not compare. With a ranker the parts are what each
    piece of evidence adds to the score, so that they sum to it.
    """

    node_id: str
    score: float
    text: str
    title: str
    heading: str
    path: str
    parts: dict[str, float]


class Searcher:
    """Answers questions from one bundle; it never changes, so one object may serve many threads.

    Args:
        bundle: what to search with. The encoder must be the one that made its vectors.
        compute: this machine's threads and device.

    Raises RagftError where a part does not fit: an adapter of another base, vectors of another
    encoder, a base model that is no longer the same, code that would score otherwise.
    """

    def __init__(self, bundle: Bundle, compute: ComputeSettings | None = None) -> None:
        self.bundle = bundle
        self.configuration: Configuration = bundle.configuration
        self._compute = compute
        settings = bundle.settings(compute or ComputeSettings())
        encoder, adapter = retriever_parts(self.configuration, bundle.models, settings)
        _require_same(encoder, bundle, "identities")
        bundle.require_same_code()
        self._settings = settings
        self._encoder = encoder
        self._adapter: Adapter | None = (
            load_adapter(adapter, encoder.weights.digest) if adapter else None
        )
        nodes = bundle.nodes()
        passages = settings.passages
        self._evidence = Evidence(nodes, passages.context == "on", passages.language)
        self._texts = self._evidence.texts
        self.read = self._evidence.read  # the passages as models read them
        rows = nodes.to_pylist()
        self._about: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            self._about.setdefault(row["node_id"], []).append(row)
        self._paths = {row["doc_key"]: row["path"] for row in rows}
        self.node_ids = sorted(self._about)
        self._vectors = _vectors_of(bundle, VECTORS_FILE, self.node_ids)
        alone = self.configuration.retriever == BASE
        self._lexical = self._evidence.plain if alone else self._evidence.lexical
        self._place = {text: node for node, text in enumerate(self._texts)}
        self._lexical.scores([""])  # builds the index now, not at the first question
        _ = encoder.model  # loads it now
        self.scorers = _scorers(bundle, settings)
        self._models = Lock()  # tokenizers refuse to be used by two threads at once
        self._loading_base = Lock()
        self._base: Encoder | None = None
        self._base_vectors: dict[str, np.ndarray] = {}
        self._loading_router = Lock()
        self._router: ToolRouter | None = None
        if self.configuration.second_stage:
            self._base_parts("base_vectors")
            self._evidence.warm()

    def __len__(self) -> int:
        return len(self.node_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        return Searcher, (self.bundle, self._compute)

    def __deepcopy__(self, memo: dict[int, Any]) -> Searcher:
        return self

    def search(self, question: str, top: int = 10) -> list[Hit]:
        """Return the best `top` passages (at most 100), best first."""
        return self._hits(*self._ranked(question), top)

    def search_within(self, question: str, documents: Collection[str], top: int = 10) -> list[Hit]:
        """Return the best passages of some documents, by their doc_keys; others are not looked at.

        Scores are scaled within these documents, so they do not compare with those of `search`.
        """
        wanted = set(documents)
        nodes = [
            place
            for place, node_id in enumerate(self.node_ids)
            if any(row["doc_key"] in wanted for row in self._about[node_id])
        ]
        if not nodes:
            return []
        return self._hits(*self._ranked(question, np.array(nodes, np.int64)), top, wanted)

    def route(self, question: str) -> tuple[Route, list[str]]:
        """Return where the router sends a question, and the documents to search, best first.

        Raises RagftError for a bundle without a router.
        """
        router = self.tool_router
        with self._models:
            route = on_one_thread(lambda: router.route(question))
        return route, router.doc_keys(route)

    @property
    def tool_router(self) -> ToolRouter:
        """The bundle's router over its documents; loaded at the first use.

        Raises RagftError for a bundle without one.
        """
        with self._loading_router:
            if self._router is None:
                encoder, vectors = self._base_parts("read_vectors")
                self._router = load_tool_router(
                    self.bundle, encoder, self.node_ids, vectors, self._settings
                )
            return self._router

    def tool_confidences(
        self, question: str, documents: Sequence[str]
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Return how sure the router is of each of some documents, and the share of each kind."""
        tools = self.tool_router
        place = {key: at for at, key in enumerate(tools.index.doc_keys)}
        wanted = np.array([place[key] for key in documents])
        with self._models:
            return on_one_thread(
                lambda: (tools.confidences(question, wanted), tools.kinds(question))
            )

    def described_confidences(self, question: str, descriptions: Sequence[str]) -> np.ndarray:
        """Return how sure the router is of tools by their descriptions alone."""
        tools = self.tool_router
        with self._models:
            return tools.confidences_by_description(question, descriptions)

    def has_document(self, doc_key: str) -> bool:
        """Say whether a document is searched."""
        return doc_key in self._paths

    def path_of(self, doc_key: str) -> str:
        """Return a document's path."""
        return self._paths[doc_key]

    def has(self, node_id: str) -> bool:
        """Say whether it searches a node."""
        return node_id in self._about

    def places(self, node_id: str) -> list[dict[str, Any]]:
        """Return the NODES rows of a node, with the column `path`: where its text stands."""
        return self._about[node_id]

    def search_alone(self, question: str, top: int = 10) -> dict[str, list[Hit]]:
        """Return what the base embedder alone and BM25 alone answer, as `search_base` fuses them.

        Raises RagftError as `search_base` does.
        """
        encoder, vectors = self._base_parts("base_vectors")
        with self._models:
            asked = on_one_thread(lambda: encoder.encode([question], "query"))
        alone = {"base": asked @ vectors.T, "bm25": self._evidence.plain.scores([question])}
        return {name: self._hits(Ranking.of(scores), {}, top) for name, scores in alone.items()}

    def search_base(self, question: str, top: int = 10) -> list[Hit]:
        """Return what the untuned hybrid answers over the same nodes: to compare with `search`.

        The base embedder and its vectors are loaded at the first call, where the retriever does
        not use them anyway.

        Raises RagftError for a bundle without these vectors, or of another base model.
        """
        encoder, vectors = self._base_parts("base_vectors")
        with self._models:
            asked = on_one_thread(lambda: encoder.encode([question], "query"))
        dense, words = asked @ vectors.T, self._evidence.plain.scores([question])
        ranking = Ranking.of(fuse(dense, words, self.base_weight))
        return self._hits(ranking, {"dense": dense[0], "bm25": words[0]}, top)

    @property
    def base_weight(self) -> float:
        """The base embedder's weight beside BM25 in `search_base`.

        The configuration's own where it fuses that embedder; a tuned retriever's weight was chosen
        for other scores, so beside one of these both count the same.
        """
        own = self.configuration.dense_weight if self.configuration.retriever == BASE else None
        return MIDDLE if own is None else own

    def _base_parts(self, kind: str) -> tuple[Encoder, np.ndarray]:
        """Return the base embedder and its vectors of the passages: alone, or as they are read."""
        with self._loading_base:
            name = self.bundle.manifest.get(kind)
            if name is None:
                raise RagftError(
                    f"bundle {self.bundle.digest[:12]} is of before bundles had the base "
                    "embedder's vectors: the next one has them"
                )
            if self._base is None:
                encoder = self._encoder
                if "tuned_embedder" in self.configuration.parts:
                    encoder = Encoder.base(self._settings.embedder, self._settings.compute)
                _require_same(encoder, self.bundle, "base_identities")
                _ = encoder.model
                self._base = encoder
            if name == VECTORS_FILE:
                return self._base, self._vectors
            if name not in self._base_vectors:
                self._base_vectors[name] = _vectors_of(self.bundle, name, self.node_ids)
            return self._base, self._base_vectors[name]

    def _hits(
        self,
        ranking: Ranking,
        parts: Mapping[str, Mapping[int, float] | np.ndarray],
        top: int,
        wanted: Collection[str] | None = None,
    ) -> list[Hit]:
        """Return the first `top` of one question's ranking; `parts` are scores by node.

        A passage that stands in several documents is shown in one of the wanted.
        """
        hits = []
        for node, score in zip(ranking.nodes[0, :top].tolist(), ranking.scores[0, :top].tolist()):
            places = self._about[self.node_ids[node]]
            about = next((row for row in places if wanted and row["doc_key"] in wanted), places[-1])
            found = {name: float(values[node]) for name, values in parts.items()}
            hits.append(
                Hit(
                    self.node_ids[node],
                    score,
                    self._texts[node],
                    about["title"],
                    nearest_heading(about),
                    about["path"],
                    found,
                )
            )
        return hits

    def query_vectors(self, questions: Sequence[str]) -> np.ndarray:
        """Return questions as the retriever compares them, float32 of shape (questions, width)."""

        def encoded() -> np.ndarray:
            vectors = self._encoder.encode(questions, "query")
            return vectors if self._adapter is None else self._adapter.queries(vectors)

        with self._models:
            return encoded() if len(questions) > 1 else on_one_thread(encoded)

    def document_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return texts as the retriever compares them, float32 of shape (texts, width)."""
        with self._models:
            vectors = self._encoder.encode(texts, "document")
        return vectors if self._adapter is None else self._adapter.documents(vectors)

    def second_scores(self, question: str, passages: Sequence[str]) -> np.ndarray | None:
        """Return the ranker's score of each passage; None where there is no second stage.

        A ranker knows the bundle's own passages alone: others get the lowest score of those.
        """
        if not self.configuration.second_stage:
            return None
        known_places = {self._place[text] for text in passages if text in self._place}
        own = np.array(sorted(known_places), np.int64)
        if not len(own):
            return np.zeros(len(passages), np.float32)
        ranking, _ = self._by_evidence(question, own)
        known = dict(zip(ranking.nodes[0].tolist(), ranking.scores[0].tolist()))
        lowest = min(known.values())
        found = [known.get(self._place.get(text, -1), lowest) for text in passages]
        return np.array(found, np.float32)

    def _ranked(
        self, question: str, within: np.ndarray | None = None
    ) -> tuple[Ranking, Mapping[str, Mapping[int, float] | np.ndarray]]:
        """Return the ranking, and each part's scores of the nodes.

        Args:
            within: places of the nodes to rank; all of them by default.
        """
        if self.configuration.second_stage:
            return self._by_evidence(question, within)
        nodes = np.arange(len(self)) if within is None else within
        dense = self.query_vectors([question]) @ self._vectors.T
        parts = {"dense": dense[0]}
        first = dense[:, nodes]
        if self.configuration.dense_weight is not None:
            words = self._lexical.scores([question])
            parts["bm25"] = words[0]
            first = fuse(first, words[:, nodes], self.configuration.dense_weight)
        ranking = Ranking.of(first)
        return Ranking(nodes[ranking.nodes], ranking.scores), parts

    def _by_evidence(
        self, question: str, within: np.ndarray | None
    ) -> tuple[Ranking, dict[str, dict[int, float]]]:
        """Return the ranker's order of the candidates, and what each piece of evidence adds."""
        base, alone = self._base_parts("base_vectors")
        with self._models:
            plain = on_one_thread(lambda: base.encode([question], "query"))
        asked = plain if self._encoder is base else self.query_vectors([question])
        if self._encoder is base and self._adapter is not None:
            asked = self._adapter.queries(asked)
        chosen = slice(None) if within is None else within
        found = self._evidence.candidates(
            [question],
            asked @ self._vectors[chosen].T,
            self._lexical.scores([question])[:, chosen],
            plain @ alone[chosen].T,
            None if within is None else within[None],
        )
        nodes = found.nodes[0].tolist()
        pairs = [(question, self.read[node]) for node in nodes]
        for name, scorer in self.scorers.items():
            with self._models:
                found = found.with_scores(name, on_one_thread(partial(scorer.score, pairs))[None])
        ranker = Ranker(self.configuration.ranker)
        added = found.features[0] * ranker.vector(found.names)
        parts = {
            name: dict(zip(nodes, added[:, place].tolist()))
            for place, name in enumerate(found.names)
            if ranker.weights.get(name)
        }
        return by_scores(found.nodes, added.sum(axis=1)[None]), parts


def on_one_thread(work: Callable[[], Result]) -> Result:
    """Run a question's work where torch computes with one thread.

    One question is too little to share: on idle cores two threads are no faster, and on busy ones
    they wait for each other at every product, thirty times as long as the work takes.
    """
    return _lone_thread(os.getpid()).submit(work).result()


@lru_cache(maxsize=1)
def _lone_thread(process: int) -> ThreadPoolExecutor:
    """Return the thread of a process; a forked one has none of its parent's."""
    return lone_threads(1)


def _require_same(encoder: Encoder, bundle: Bundle, made_by: str) -> None:
    """Raise RagftError unless the encoder is the one that made the bundle's vectors."""
    for kind, made in bundle.manifest[made_by].items():
        if encoder.identity(kind) != made:
            raise RagftError(
                f"bundle {bundle.digest[:12]}: its vectors are not of the {kind} encoder "
                f"{bundle.manifest['base_model']!r} as it is now"
            )


def _vectors_of(bundle: Bundle, name: str, node_ids: Sequence[str]) -> np.ndarray:
    import pyarrow.parquet as pq

    table = pq.read_table(bundle.folder / name)
    if table.column("text_id").to_pylist() != list(node_ids):
        raise RagftError(f"bundle {bundle.digest[:12]}: vectors and nodes do not match")
    return vectors_matrix(table)


def _scorers(bundle: Bundle, settings: Settings) -> dict[str, PairScorer]:
    """Return what scores the pairs that a bundle's ranker looks at, by the evidence's name."""
    models, found = bundle.models, dict[str, PairScorer]()
    if models.late_interaction is not None:
        from ragft_pipeline.retrieval.late_interaction import LateInteraction
        from ragft_pipeline.retrieval.token_vectors import StoredTokens

        base = Encoder.base(settings.embedder, settings.compute)
        stored = StoredTokens.load(bundle.folder / TOKENS_FOLDER, base)
        found[LATE_INTERACTION] = LateInteraction.load(
            models.late_interaction, settings.embedder, settings.compute, stored
        )
    if models.reranker is not None:
        found[CROSS_ENCODER] = Reranker(models.reranker, settings.reranker, settings.compute)
    return found
