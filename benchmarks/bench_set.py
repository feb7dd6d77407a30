"""A corpus with people's questions, ready for a comparison: nodes, base vectors, one scorer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ragft_pipeline import recipes
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.lineage.steps import Recipe, materialize
from ragft_pipeline.models.weights import Weights, require_embedder, resolve_weights
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.metrics import PRIMARY, score_rankings
from ragft_pipeline.retrieval.question_sets import QuestionSet, RelevanceIndex, gold_set
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.store import Artifact, ArtifactStore, Workspace


@dataclass
class Bench:
    """A store with one frozen version, its nodes, the base vectors, people's questions."""

    settings: Settings
    version: str
    weights: Weights
    nodes: pa.Table
    people: QuestionSet
    encoder: Encoder
    node_vectors: np.ndarray
    question_vectors: np.ndarray

    @classmethod
    def begin(cls, folder: Path, store: Path, fresh: bool = True) -> Bench:
        """Freeze the folder into a store.

        Args:
            fresh: empty the store first, so that every time is of this run.
        """
        if fresh:
            shutil.rmtree(store, ignore_errors=True)
        settings = load_settings()
        generators = tuple(g for g in settings.questions.generators if g.kind == "extractive")
        settings = settings.model_copy(
            update={
                "corpus": settings.corpus.model_copy(update={"source": str(folder)}),
                "questions": settings.questions.model_copy(update={"generators": generators}),
                "store": str(store),
            }
        )
        artifacts = ArtifactStore(settings.store)
        version = SnapshotStore(artifacts).freeze(settings, print).version
        encoder = Encoder.base(settings.embedder, settings.compute)
        made = make(settings, version, recipes.node_embeddings, recipes.gold_questions)
        nodes = made["chunked_nodes"].table()
        gold = made["gold_questions"].table()
        people = gold_set("people", gold, relevance(nodes))
        with artifacts.staging("benchmark") as staged:
            texts = {str(row): text for row, text in enumerate(nodes.column("text").to_pylist())}
            work = Workspace(artifacts, "benchmark", staged)
            _, vectors = cached_vectors(work, encoder, texts, "document")
        return cls(
            settings,
            version,
            require_embedder(resolve_weights(settings.embedder.model)),
            nodes,
            people,
            encoder,
            vectors,
            encoder.encode(people.texts, "query"),
        )

    def with_pairs(self, pairs: int) -> Settings:
        """Return the settings with so many training pairs for every recipe."""
        questions = self.settings.questions.model_copy(update={"max_pairs": pairs})
        tuned = self.settings.tuned_embedder.model_copy(update={"max_pairs": pairs})
        return self.settings.model_copy(update={"questions": questions, "tuned_embedder": tuned})

    def score(self, queries: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Return nDCG@10 of every one of the people's questions, by our one scorer."""
        return score_rankings(top_k(queries @ nodes.T, 100), self.people.relevant)[PRIMARY]

    def score_adapter(self, folder: Path) -> np.ndarray:
        """Score an adapter over the base vectors of the passages."""
        adapter = load_adapter(folder, self.weights.digest)
        documents = adapter.documents(self.node_vectors)
        return self.score(adapter.queries(self.question_vectors), documents)

    def score_model(self, folder: Path, maps: Path | None = None) -> np.ndarray:
        """Score a sentence-transformers model, with maps over its vectors where there are any."""
        tuned = Encoder.tuned(folder, self.settings.embedder, self.settings.compute)
        nodes = tuned.encode(self.nodes.column("text").to_pylist(), "document")
        queries = tuned.encode(self.people.texts, "query")
        if maps is not None:
            adapter = load_adapter(maps, tuned.weights.digest)
            queries, nodes = adapter.queries(queries), adapter.documents(nodes)
        return self.score(queries, nodes)


def relevance(nodes: pa.Table) -> RelevanceIndex:
    return RelevanceIndex(nodes, columns(nodes))


def columns(nodes: pa.Table) -> dict[str, int]:
    return {node_id: row for row, node_id in enumerate(nodes.column("node_id").to_pylist())}


def make(
    settings: Settings,
    version: str,
    *wanted: Recipe,
    report: Callable[[str], None] = print,
) -> dict[str, Artifact]:
    """Materialize assets and all that they read; return the artifacts by name."""
    names = {recipe.name for recipe in wanted}
    for recipe in reversed(recipes.RECIPES):
        names |= set(recipe.inputs) if recipe.name in names else set()
    return {
        recipe.name: materialize(recipe, settings, version, report).artifact
        for recipe in recipes.RECIPES
        if recipe.name in names
    }
