"""Search with one bundle: what evaluation measures in batches, for one question at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ragft_pipeline.corpus.document_metadata import Metadata, from_json
from ragft_pipeline.corpus.nodes import nearest_heading
from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.ranking import Ranking
from ragft_pipeline.evaluation.second_stages import by_scores
from ragft_pipeline.evaluation.systems import BASE
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.mapped_vectors import MappedVectors
from ragft_pipeline.retrieval.metadata_filters import Filters
from ragft_pipeline.retrieval.ranker import Ranker
from ragft_pipeline.retrieval.search import MIDDLE, fuse
from ragft_pipeline.retrieval.threads import on_one_thread
from ragft_pipeline.serving.bundle import Bundle
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.index import BundleIndex
from ragft_pipeline.serving.loaded_models import LoadedModels
from ragft_pipeline.serving.routing import load_tool_router
from ragft_pipeline.settings import ComputeSettings

if TYPE_CHECKING:
    from ragft_pipeline.routing.router import Route
    from ragft_pipeline.routing.tool_router import ToolRouter


@dataclass(frozen=True)
class Hit:
    """A passage that answers: its score, and the same passage's score in each part.

    Scores of different questions or bundles do not compare. With a ranker the parts are what each
    piece of evidence adds to the score, so that they sum to it. `metadata` is what the passage's
    document says about itself, empty in a bundle of before that was kept.
    """

    node_id: str
    score: float
    text: str
    title: str
    heading: str
    path: str
    metadata: Metadata
    parts: dict[str, float]


class Searcher:
    """Answers questions from one bundle; it never changes, so one object may serve many threads.

    Args:
        bundle: what to search with. The encoder must be the one that made its vectors.
        compute: this machine's threads and device.
        before: what searched before it; models and segments that both have are not loaded again.

    Raises RagftError where a part does not fit: an adapter of another base, vectors of another
    encoder, a base model that is no longer the same, code that would score otherwise.
    """

    def __init__(
        self,
        bundle: Bundle,
        compute: ComputeSettings | None = None,
        before: Searcher | None = None,
    ) -> None:
        self.bundle = bundle
        self.configuration: Configuration = bundle.configuration
        self._compute = compute
        self._settings = settings = bundle.settings(compute or ComputeSettings())
        self.models: LoadedModels = (
            before.models
            if before is not None and before.models.serve(bundle, settings)
            else LoadedModels(bundle, settings)
        )
        bundle.require_same_code()
        self._index: BundleIndex = BundleIndex(bundle, settings, before._index if before else None)
        self._evidence = self._index.evidence
        self._texts, self.node_ids = self._index.texts, self._index.node_ids
        self.read = self._index.read  # the passages as models read them
        self._vectors = self._index.vectors()
        alone = self.configuration.retriever == BASE
        self._lexical = self._evidence.plain if alone else self._evidence.lexical
        self._lexical.scores([""])  # builds the index now, not at the first question
        self.scorers = self.models.scorers(self._index.tokens())
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

    def search(self, question: str, top: int = 10, filters: Filters | None = None) -> list[Hit]:
        """Return the best `top` passages (at most 100), best first.

        Args:
            filters: on the metadata; others are not looked at, as in `search_within`.

        Raises FilterError for filters that ask nothing.
        """
        if filters is None or not filters.filters:
            return self._hits(*self._ranked(question), top)
        return self._within(question, self._index.filterable.matching(filters), top)

    def search_within(self, question: str, documents: Collection[str], top: int = 10) -> list[Hit]:
        """Return the best passages of some documents, by their doc_keys; others are not looked at.

        Scores are scaled within these documents, so they do not compare with those of `search`.
        """
        return self._within(question, self._index.of_documents(documents), top)

    def _within(self, question: str, rows: np.ndarray, top: int) -> list[Hit]:
        """Return the best passages of some rows of the nodes, bool (rows,)."""
        nodes = self._index.within(rows)
        if not len(nodes):
            return []
        return self._hits(*self._ranked(question, nodes), top, rows)

    def route(self, question: str) -> tuple[Route, list[str]]:
        """Return where the router sends a question, and the documents to search, best first.

        Raises RagftError for a bundle without a router.
        """
        router = self.tool_router
        with self.models.lock:
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
                self._router = load_tool_router(self._index, encoder, vectors, self._settings)
            return self._router

    def tool_confidences(
        self, question: str, documents: Sequence[str]
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Return how sure the router is of each of some documents, and the share of each kind."""
        tools = self.tool_router
        place = {key: at for at, key in enumerate(tools.index.doc_keys)}
        wanted = np.array([place[key] for key in documents])
        with self.models.lock:
            return on_one_thread(
                lambda: (tools.confidences(question, wanted), tools.kinds(question))
            )

    def described_confidences(self, question: str, descriptions: Sequence[str]) -> np.ndarray:
        """Return how sure the router is of tools by their descriptions alone."""
        tools = self.tool_router
        with self.models.lock:
            return tools.confidences_by_description(question, descriptions)

    def has_document(self, doc_key: str) -> bool:
        """Say whether a document is searched."""
        return doc_key in self._index.paths

    def path_of(self, doc_key: str) -> str:
        """Return a document's path."""
        return self._index.paths[doc_key]

    def has(self, node_id: str) -> bool:
        """Say whether it searches a node."""
        return self._index.place(node_id) is not None

    def places(self, node_id: str) -> list[dict[str, Any]]:
        """Return the NODES rows of a node, with the column `path`: where its text stands."""
        place = self._index.place(node_id)
        if place is None:
            raise KeyError(node_id)
        return self._index.shown(place)

    def search_alone(self, question: str, top: int = 10) -> dict[str, list[Hit]]:
        """Return what the base embedder alone and BM25 alone answer, as `search_base` fuses them.

        Raises RagftError as `search_base` does.
        """
        encoder, vectors = self._base_parts("base_vectors")
        with self.models.lock:
            asked = on_one_thread(lambda: encoder.encode([question], "query"))
        alone = {"base": vectors.scores(asked), "bm25": self._evidence.plain.scores([question])}
        return {name: self._hits(Ranking.of(scores), {}, top) for name, scores in alone.items()}

    def search_base(self, question: str, top: int = 10) -> list[Hit]:
        """Return what the untuned hybrid answers over the same nodes: to compare with `search`.

        The base embedder and its vectors are loaded at the first call, where the retriever does
        not use them anyway.

        Raises RagftError for a bundle without these vectors, or of another base model.
        """
        encoder, vectors = self._base_parts("base_vectors")
        with self.models.lock:
            asked = on_one_thread(lambda: encoder.encode([question], "query"))
        dense, words = vectors.scores(asked), self._evidence.plain.scores([question])
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

    def _base_parts(self, kind: str) -> tuple[Encoder, MappedVectors]:
        """Return the base embedder and its vectors of the passages: alone, or as they are read."""
        name = self.bundle.manifest.get(kind)
        if name is None:
            raise RagftError(
                f"bundle {self.bundle.digest[:12]} is of before bundles had the base "
                "embedder's vectors: the next one has them"
            )
        return self.models.base, self._index.vectors(name)

    def _hits(
        self,
        ranking: Ranking,
        parts: Mapping[str, Mapping[int, float] | np.ndarray],
        top: int,
        among: np.ndarray | None = None,
    ) -> list[Hit]:
        """Return the first `top` of one question's ranking; `parts` are scores by node.

        A passage that stands in several documents is shown in one of the rows that were searched.
        """
        hits = []
        for node, score in zip(ranking.nodes[0, :top].tolist(), ranking.scores[0, :top].tolist()):
            about = self._index.shown(node, among)[-1]
            found = {name: float(values[node]) for name, values in parts.items()}
            hits.append(
                Hit(
                    self.node_ids[node],
                    score,
                    self._texts[node],
                    about["title"],
                    nearest_heading(about),
                    about["path"],
                    from_json(about.get("metadata")),
                    found,
                )
            )
        return hits

    def query_vectors(self, questions: Sequence[str]) -> np.ndarray:
        """Return questions as the retriever compares them, float32 of shape (questions, width)."""

        def encoded() -> np.ndarray:
            vectors = self.models.encoder.encode(questions, "query")
            return vectors if self.models.adapter is None else self.models.adapter.queries(vectors)

        with self.models.lock:
            return encoded() if len(questions) > 1 else on_one_thread(encoded)

    def document_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return texts as the retriever compares them, float32 of shape (texts, width)."""
        with self.models.lock:
            vectors = self.models.encoder.encode(texts, "document")
        return vectors if self.models.adapter is None else self.models.adapter.documents(vectors)

    def second_scores(self, question: str, passages: Sequence[str]) -> np.ndarray | None:
        """Return the ranker's score of each passage; None where there is no second stage.

        A ranker knows the bundle's own passages alone: others get the lowest score of those.
        """
        if not self.configuration.second_stage:
            return None
        places = self._index.places_of(passages)
        own = np.array(sorted(set(places.values())), np.int64)
        if not len(own):
            return np.zeros(len(passages), np.float32)
        ranking, _ = self._by_evidence(question, own)
        known = dict(zip(ranking.nodes[0].tolist(), ranking.scores[0].tolist()))
        lowest = min(known.values())
        found = [known.get(places.get(text, -1), lowest) for text in passages]
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
        dense = self._vectors.scores(self.query_vectors([question]))
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
        with self.models.lock:
            plain = on_one_thread(lambda: base.encode([question], "query"))
        asked = plain if self.models.encoder is base else self.query_vectors([question])
        if self.models.encoder is base and self.models.adapter is not None:
            asked = self.models.adapter.queries(asked)
        words = self._lexical.scores([question])
        found = self._evidence.candidates(
            [question],
            self._vectors.scores(asked, within),
            words if within is None else words[:, within],
            alone.scores(plain, within),
            None if within is None else within[None],
        )
        nodes = found.nodes[0].tolist()
        pairs = [(question, self.read[node]) for node in nodes]
        for name, scorer in self.scorers.items():
            with self.models.lock:
                found = found.with_scores(name, on_one_thread(partial(scorer.score, pairs))[None])
        ranker = Ranker(self.configuration.ranker)
        added = found.features[0] * ranker.vector(found.names)
        parts = {
            name: dict(zip(nodes, added[:, place].tolist()))
            for place, name in enumerate(found.names)
            if ranker.weights.get(name)
        }
        return by_scores(found.nodes, added.sum(axis=1)[None]), parts
