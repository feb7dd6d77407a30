"""The systems of one corpus version under trial, and their rows on question sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.evaluation.choosing import Choices, choose_fusion, choose_second_stage
from ragft_pipeline.evaluation.ranking import Ranking
from ragft_pipeline.evaluation.second_stages import (
    LATE_INTERACTION,
    RERANKER,
    SecondStage,
    alone_name,
    rerank,
    staged_name,
)
from ragft_pipeline.evaluation.systems import DenseRetriever, FirstStages, hybrid_name
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import METRICS, score_rankings
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.reranking import Reranker
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

_REPORTED = ("gold_test", "synthetic_test", "gold_dev")


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
    """The systems under test over one corpus version's nodes."""

    node_ids: list[str]
    stages: FirstStages
    second_stages: list[SecondStage]
    settings: Settings

    @classmethod
    def of(cls, nodes: pa.Table, models: Models, settings: Settings, work: Workspace) -> Trial:
        """Build every system that the models make, over a NODES table."""
        texts = node_texts(nodes)
        passages = list(texts.values())
        retrievers = _retrievers(texts, models, settings, work)
        recipe = settings.evaluation
        stages = FirstStages(
            passages,
            LexicalIndex(passages),
            retrievers,
            exact_up_to=recipe.exact_up_to,
            recall=recipe.min_recall,
        )
        return cls(list(texts), stages, _second_stages(passages, models, settings, work), settings)

    @property
    def column(self) -> dict[str, int]:
        """The place of each node."""
        return {node_id: index for index, node_id in enumerate(self.node_ids)}

    def choose(self, questions: QuestionSet) -> Choices:
        """Choose the weights of fusion and of the second stages on questions.

        Without any, hybrids weigh both parts alike and second stages have their usual weights.
        """
        recipe = self.settings.evaluation
        choices = Choices(questions.name, len(questions))
        choices.fusion_weights = choose_fusion(self.stages, questions, recipe.fusion_weights)
        for stage in self.second_stages:
            if not len(questions):
                names = map(hybrid_name, choices.fusion_weights)
                choices.second_stage_weights |= {
                    staged_name(name, stage.name): stage.prior for name in names
                }
                continue
            part = questions.first(stage.limit)
            first = self._candidates(stage, questions, part, choices)
            choices.second_stage_weights |= choose_second_stage(
                stage, part, first, recipe.rerank_weights
            )
        return choices

    def rows(self, sets: dict[str, QuestionSet], choices: Choices) -> pa.Table:
        """Return the EVAL_ROWS of every system on every set."""
        rows = []
        for questions in sets.values():
            for name, ranking in self.stages.rank(questions, choices.fusion_weights).items():
                rows.append(self._rows(questions, name, ranking))
        for stage in self.second_stages:
            for name in _REPORTED:
                if name in sets:
                    part = sets[name].first(stage.limit)
                    rows += self._staged(stage, sets[name], part, choices)
        return pa.concat_tables(rows)

    def _staged(
        self, stage: SecondStage, whole: QuestionSet, part: QuestionSet, choices: Choices
    ) -> list[pa.Table]:
        rows = []
        for name, first in self._candidates(stage, whole, part, choices).items():
            staged = staged_name(name, stage.name)
            scores = stage.scores(part, first.nodes[:, : stage.depth])
            mixed = rerank(first, scores, choices.second_stage_weights.get(staged, stage.prior))
            rows.append(self._rows(part, staged, mixed))
            alone = alone_name(name, stage.name)
            rows.append(self._rows(part, alone, rerank(first, scores, 1.0)))
        return rows

    def _candidates(
        self, stage: SecondStage, whole: QuestionSet, part: QuestionSet, choices: Choices
    ) -> dict[str, Ranking]:
        """Return the hybrids' rankings of a part of a set, their candidates scored."""
        rankings = self.stages.rank(whole, choices.fusion_weights)
        place = {question_id: row for row, question_id in enumerate(whole.ids)}
        rows = [place[question_id] for question_id in part.ids]
        hybrids = {
            name: Ranking(rankings[name].nodes[rows], rankings[name].scores[rows])
            for name in map(hybrid_name, choices.fusion_weights)
        }
        stage.ensure(part, [ranking.nodes[:, : stage.depth] for ranking in hybrids.values()])
        return hybrids

    def _rows(self, questions: QuestionSet, system: str, ranking: Ranking) -> pa.Table:
        scores = score_rankings(ranking.nodes, questions.relevant)
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
                "top_nodes": [names[row].tolist() for row in ranking.nodes[:, :10]],
                "first_rank": scores["first_rank"].astype(int),
                **{metric: scores[metric] for metric in METRICS},
            },
            schema=schemas.EVAL_ROWS.schema,
        )


def _retrievers(
    texts: dict[str, str], models: Models, settings: Settings, work: Workspace
) -> list[DenseRetriever]:
    base = Encoder.base(settings.embedder, settings.compute)
    _, base_nodes = cached_vectors(work, base, texts, "document")

    def encoding(encoder: Encoder) -> Callable[[Sequence[str]], np.ndarray]:
        return lambda questions: encoder.encode(questions, "query")

    def known(encoder: Encoder) -> Callable[[QuestionSet], np.ndarray]:
        return lambda questions: cached_vectors(work, encoder, questions.by_id(), "query")[1]

    def adapted(name: str, folder: Path, encoder: Encoder, nodes: np.ndarray) -> DenseRetriever:
        adapter = load_adapter(folder, encoder.weights.digest)
        return DenseRetriever(
            name,
            adapter.documents(nodes),
            lambda questions: adapter.queries(encoder.encode(questions, "query")),
            lambda questions: adapter.queries(known(encoder)(questions)),
        )

    retrievers = [DenseRetriever("base", base_nodes, encoding(base), known(base))]
    if models.adapter is not None:
        retrievers.append(adapted("adapter", models.adapter, base, base_nodes))
    if models.tuned_embedder is not None:
        tuned = Encoder.tuned(models.tuned_embedder, settings.embedder, settings.compute)
        _, nodes = cached_vectors(work, tuned, texts, "document")
        retrievers.append(DenseRetriever("tuned_embedder", nodes, encoding(tuned), known(tuned)))
        if models.stacked_adapter is not None:
            stacked = models.stacked_adapter
            retrievers.append(adapted("adapter(tuned_embedder)", stacked, tuned, nodes))
    return retrievers


def _second_stages(
    passages: list[str], models: Models, settings: Settings, work: Workspace
) -> list[SecondStage]:
    recipe = settings.evaluation
    stages = []
    if models.late_interaction is not None:
        from ragft_pipeline.retrieval.late_interaction import LateInteraction
        from ragft_pipeline.retrieval.token_vectors import cached_tokens

        encoder = Encoder.base(settings.embedder, settings.compute)
        stored = cached_tokens(work, encoder, passages, settings.late_interaction.bits)
        late = LateInteraction.load(
            models.late_interaction, settings.embedder, settings.compute, stored
        )
        stages.append(
            SecondStage(
                LATE_INTERACTION,
                late,
                passages,
                work,
                depth=settings.late_interaction.depth,
                limit=recipe.max_late_interaction,
                prior=0.5,
            )
        )
    if models.reranker is not None:
        reranker = Reranker(models.reranker, settings.reranker, settings.compute)
        stages.append(
            SecondStage(
                RERANKER,
                reranker,
                passages,
                work,
                depth=recipe.rerank_depth,
                limit=recipe.max_reranked,
                prior=0.0,
            )
        )
    return stages
