"""The systems of one corpus version under trial, and their rows on question sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.evaluation.choosing import Fused, Plain, Ranked, System
from ragft_pipeline.evaluation.ranking import Found
from ragft_pipeline.evaluation.second_stages import (
    CROSS_ENCODER_RANKER,
    RANKER,
    UNTUNED_CROSS_ENCODER_RANKER,
    PairScores,
    staged_name,
)
from ragft_pipeline.evaluation.systems import (
    BASE,
    BM25,
    CONTEXT,
    DenseRetriever,
    FirstStages,
    hybrid_name,
)
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.evidence import (
    CROSS_ENCODER,
    LATE_INTERACTION,
    Candidates,
    Evidence,
)
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import DEPTH, METRICS, POOLED
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.reranking import Reranker, is_cross_encoder
from ragft_pipeline.retrieval.search import best_mixtures, min_max, top_k
from ragft_pipeline.retrieval.terms import cached_terms
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.store.scratch import scratch_array


@dataclass(frozen=True)
class Models:
    """The folders of the models that are measured; a part that is None is left out."""

    tuned_embedder: Path | None = None
    adapter: Path | None = None
    stacked_adapter: Path | None = None
    reranker: Path | None = None
    late_interaction: Path | None = None


@dataclass
class Trial:
    """The systems under test over one corpus version's nodes.

    Attributes:
        late_interaction: what every ranker looks at, where there is one.
        cross_encoders: by second stage; a ranker over the untuned hybrid looks at each.
        legible: how far the base embedder reads the corpus, for the rankers' prior.
        ranker_seconds: spent on gathering evidence, late interaction apart.
    """

    node_ids: list[str]
    stages: FirstStages
    late_interaction: PairScores | None
    cross_encoders: dict[str, PairScores]
    evidence: Evidence
    settings: Settings
    legible: float = 1.0
    ranker_seconds: float = 0.0

    @classmethod
    def of(cls, nodes: pa.Table, models: Models, settings: Settings, work: Workspace) -> Trial:
        """Build every system that the models make, over a NODES table.

        Whether passages are read below their headings is `passages.context`, decided.
        """
        recipe = settings.evaluation
        language = settings.passages.language
        evidence = Evidence.of(
            nodes,
            settings.passages.context == "on",
            language,
            lambda texts: cached_terms(work, texts, language),
        )
        node_ids = sorted(set(nodes.column("node_id").to_pylist()))
        stages = FirstStages(
            evidence.texts,
            evidence.plain,
            _retrievers(node_ids, evidence, models, settings, work),
            exact_up_to=recipe.exact_up_to,
            recall=recipe.min_recall,
        )
        late = _late_interaction(evidence.read, models, settings, work)
        cross_encoders = _cross_encoders(evidence.read, models, settings, work)
        return cls(node_ids, stages, late, cross_encoders, evidence, settings)

    def places(self, nodes: pa.Table) -> dict[str, int]:
        """Return the places of the nodes of a NODES table."""
        ids = pc.unique(nodes.column("node_id"))
        places = pc.index_in(ids, pa.array(self.node_ids, pa.string()))
        return dict(zip(ids.to_pylist(), places.to_pylist()))

    @property
    def untuned(self) -> str:
        """The hybrid of the base embedder over the passages as models read them."""
        return hybrid_name(BASE if self.evidence.read is self.evidence.texts else CONTEXT)

    @property
    def prior(self) -> str:
        """The system with the best evidence from other corpora: the shipped ranker."""
        return staged_name(self.untuned, RANKER)

    def measure(self, questions: QuestionSet, only: Collection[str] = ()) -> list[System]:
        """Return the systems over a set of questions, the cheapest first.

        Args:
            only: the names of those that are wanted; all of them by default.
        """
        grid = self.settings.evaluation.fusion_weights
        base = self.stages.retrievers[0]
        ranked: dict[str, list[np.ndarray]] = {}
        gathered: dict[str, list[Candidates]] = {}

        def wanted(name: str) -> bool:
            return not only or any(each == name or each.startswith(f"{name} + ") for each in only)

        def rank(name: str, nodes: np.ndarray) -> None:
            ranked.setdefault(name, []).append(nodes)

        for block, words, scored in self.stages.blocks(questions):
            if wanted(BM25):
                rank(BM25, top_k(words, DEPTH))
            asked = self.stages.encoded(base, questions)[block]
            for retriever, scores in scored:
                hybrid = hybrid_name(retriever.name)
                if wanted(retriever.name):
                    rank(retriever.name, scores.named(top_k(scores.dense, DEPTH)))
                if not wanted(hybrid):
                    continue
                scaled = min_max(scores.dense), min_max(scores.words)
                for weight, best in zip(grid, best_mixtures(*scaled, grid, DEPTH)):
                    rank(f"{hybrid} {weight}", scores.named(best))
                start = time.monotonic()
                plain = scores.dense if retriever is base else scores.of(asked, base.node_vectors)
                found = self.evidence.candidates(
                    questions.texts[block], scores.dense, scores.words, plain, scores.nodes
                )
                gathered.setdefault(hybrid, []).append(found)
                self.ranker_seconds += time.monotonic() - start
        results = {
            name: Found.of(np.concatenate(parts), questions.judged)
            for name, parts in ranked.items()
        }
        names = [BM25, *(each.name for each in self.stages.retrievers)]
        systems: list[System] = [Plain(name, results[name]) for name in names if name in results]
        systems += [
            Fused(name, grid, [results[f"{name} {weight}"] for weight in grid]) for name in gathered
        ]
        systems += self._ranked(questions, gathered)
        return systems if not only else [each for each in systems if each.name in only]

    def _ranked(
        self, questions: QuestionSet, gathered: dict[str, list[Candidates]]
    ) -> Iterator[System]:
        """Yield the rankers over each hybrid's candidates."""
        whole = {name: Candidates.joined(parts) for name, parts in gathered.items()}
        if self.late_interaction is not None and whole:
            self.late_interaction.ensure(questions, [found.nodes for found in whole.values()])
            whole = {
                name: found.with_scores(
                    LATE_INTERACTION, self.late_interaction.scores(questions, found.nodes)
                )
                for name, found in whole.items()
            }
        stages = [(name, RANKER, found) for name, found in whole.items()]
        if self.untuned in whole and len(questions) <= self.settings.evaluation.max_reranked:
            found = whole[self.untuned]
            for stage, scorer in self.cross_encoders.items():
                scorer.ensure(questions, [found.nodes])
                read = found.with_scores(CROSS_ENCODER, scorer.scores(questions, found.nodes))
                stages.append((self.untuned, stage, read))
        for name, stage, found in stages:
            yield Ranked(staged_name(name, stage), found, questions, self.legible)

    def rows(self, questions: QuestionSet, system: str, found: Found) -> pa.Table:
        """Return the EVAL_ROWS of a system's results on a set."""
        names = np.array(self.node_ids, dtype=object)
        number = len(questions)
        relevant = [sorted(self.node_ids[i] for i in wanted) for wanted in questions.relevant]
        return pa.table(
            {
                "question_id": questions.ids,
                "question": questions.texts,
                "question_set": [questions.name] * number,
                "system": [system] * number,
                "cluster": questions.clusters,
                "held_out": questions.held_out,
                "relevant": relevant,
                "top_nodes": [names[row].tolist() for row in found.top],
                "first_rank": found.scores["first_rank"].astype(int),
                **{metric: found.scores[metric] for metric in METRICS},
                **{name: pa.array(found.scores[name], from_pandas=True) for name in POOLED},
            },
            schema=schemas.EVAL_ROWS.schema,
        )


def _retrievers(
    node_ids: list[str], evidence: Evidence, models: Models, settings: Settings, work: Workspace
) -> list[DenseRetriever]:
    """Return the base embedder over the passages alone, and what reads them as models do."""
    base = Encoder.base(settings.embedder, settings.compute)
    texts = dict(zip(node_ids, evidence.read))
    _, base_nodes = cached_vectors(work, base, texts, "document")

    def encoding(encoder: Encoder) -> Callable[[Sequence[str]], np.ndarray]:
        return lambda questions: encoder.encode(questions, "query")

    def known(encoder: Encoder) -> Callable[[QuestionSet], np.ndarray]:
        return lambda questions: cached_vectors(work, encoder, questions.by_id(), "query")[1]

    def adapted(name: str, folder: Path, encoder: Encoder, nodes: np.ndarray) -> DenseRetriever:
        adapter = load_adapter(folder, encoder.weights.digest)
        return DenseRetriever(
            name,
            adapter.documents(nodes, scratch_array(work.store.root, nodes.shape)),
            lambda questions: adapter.queries(encoder.encode(questions, "query")),
            lambda questions: adapter.queries(known(encoder)(questions)),
            evidence.lexical,
        )

    def plain(
        name: str, encoder: Encoder, nodes: np.ndarray, words: LexicalIndex
    ) -> DenseRetriever:
        return DenseRetriever(name, nodes, encoding(encoder), known(encoder), words)

    if evidence.read is evidence.texts:
        retrievers = [plain("base", base, base_nodes, evidence.plain)]
    else:
        alone = dict(zip(node_ids, evidence.texts))
        _, untuned = cached_vectors(work, base, alone, "document")
        retrievers = [
            plain("base", base, untuned, evidence.plain),
            plain(CONTEXT, base, base_nodes, evidence.lexical),
        ]
    if models.adapter is not None:
        retrievers.append(adapted("adapter", models.adapter, base, base_nodes))
    if models.tuned_embedder is not None:
        tuned = Encoder.tuned(models.tuned_embedder, settings.embedder, settings.compute)
        _, nodes = cached_vectors(work, tuned, texts, "document")
        retrievers.append(plain("tuned_embedder", tuned, nodes, evidence.lexical))
        if models.stacked_adapter is not None:
            stacked = models.stacked_adapter
            retrievers.append(adapted("adapter(tuned_embedder)", stacked, tuned, nodes))
    return retrievers


def _late_interaction(
    passages: Sequence[str], models: Models, settings: Settings, work: Workspace
) -> PairScores | None:
    if models.late_interaction is None:
        return None
    from ragft_pipeline.retrieval.late_interaction import LateInteraction
    from ragft_pipeline.retrieval.token_rows import CachedTokens

    encoder = Encoder.base(settings.embedder, settings.compute)
    stored = CachedTokens(work, encoder, settings.late_interaction.bits)
    scorer = LateInteraction.load(
        models.late_interaction, settings.embedder, settings.compute, stored
    )
    return PairScores(LATE_INTERACTION, scorer, passages, work)


def _cross_encoders(
    passages: Sequence[str], models: Models, settings: Settings, work: Workspace
) -> dict[str, PairScores]:
    """Return the tuned cross-encoder, and what it was tuned from where that is one already."""
    if models.reranker is None:
        return {}
    folders = {CROSS_ENCODER_RANKER: models.reranker}
    begun_with = settings.reranker.model
    if begun_with and is_cross_encoder(folder := resolve_weights(begun_with).folder):
        folders[UNTUNED_CROSS_ENCODER_RANKER] = folder
    return {
        stage: PairScores(
            "reranker" if stage == CROSS_ENCODER_RANKER else "untuned reranker",
            Reranker(folder, settings.reranker, settings.compute),
            passages,
            work,
        )
        for stage, folder in folders.items()
    }
