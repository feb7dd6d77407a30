"""The systems of one corpus version under trial, and their rows on question sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.evaluation.choosing import (
    PEOPLE,
    Choices,
    choose_fusion,
    choose_second_stage,
)
from ragft_pipeline.evaluation.ranking import Ranking
from ragft_pipeline.evaluation.second_stages import (
    LATE_INTERACTION,
    RANKER,
    RERANKER,
    UNTUNED_RERANKER,
    SecondStage,
    by_scores,
    rerank,
    staged_name,
)
from ragft_pipeline.evaluation.systems import CONTEXT, DenseRetriever, FirstStages, hybrid_name
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.evidence import CROSS_ENCODER, FIRST_STAGE, Candidates, Evidence
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import METRICS, score_rankings
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.ranker import Ranker, cross_fitted
from ragft_pipeline.retrieval.reranking import Reranker, is_cross_encoder
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.weights import resolve_weights

_SCORES = {LATE_INTERACTION: LATE_INTERACTION, RERANKER: CROSS_ENCODER}
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
    evidence: Evidence
    settings: Settings
    ranker_seconds: float = 0.0  # spent on evidence
    _gathered: dict[tuple[str, ...], dict[str, Candidates]] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: pa.Table, models: Models, settings: Settings, work: Workspace) -> Trial:
        """Build every system that the models make, over a NODES table.

        Whether passages are read below their headings is `passages.context`, decided.
        """
        recipe = settings.evaluation
        evidence = Evidence(nodes, settings.passages.context == "on", settings.passages.language)
        node_ids = sorted(set(nodes.column("node_id").to_pylist()))
        stages = FirstStages(
            evidence.texts,
            evidence.plain,
            _retrievers(node_ids, evidence, models, settings, work),
            exact_up_to=recipe.exact_up_to,
            recall=recipe.min_recall,
        )
        seconds = _second_stages(evidence.read, models, settings, work)
        return cls(node_ids, stages, seconds, evidence, settings)

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
        choices.rankers = self.fit_rankers(questions)
        choices.second_stage_weights |= dict.fromkeys(choices.rankers, 1.0)
        return choices

    def fit_rankers(self, questions: QuestionSet) -> dict[str, dict[str, float]]:
        """Return a ranker's weights over each hybrid, by staged name.

        People's questions fit them. Synthetic ones, which copy their passage's words, never do:
        then they are the shipped ones.
        """
        if questions.name != PEOPLE or not len(questions):
            names = self.evidence_names
            hybrids = (hybrid_name(each.name) for each in self.stages.retrievers)
            return {staged_name(h, RANKER): Ranker.prior(names).weights for h in hybrids}
        part = questions.first(self.settings.evaluation.max_late_interaction)
        return {
            staged_name(name, RANKER): Ranker.fitted(
                found.names, found.features, found.relevant(part.relevant), part.clusters
            ).weights
            for name, found in self.gather(part).items()
        }

    @property
    def evidence_names(self) -> tuple[str, ...]:
        """The names of what rankers look at."""
        return (*FIRST_STAGE, *(_SCORES[s.name] for s in self._scorers))

    @property
    def _scorers(self) -> list[SecondStage]:
        """The second stages whose scores are evidence, cheap enough for every question."""
        return [stage for stage in self.second_stages if stage.name == LATE_INTERACTION]

    def gather(self, questions: QuestionSet) -> dict[str, Candidates]:
        """Return each hybrid's candidates and all evidence about them, by the hybrid's name."""
        known = tuple(questions.ids)
        if known in self._gathered:
            return self._gathered[known]
        start, base = time.monotonic(), self.stages.retrievers[0]
        parts: dict[str, list[Candidates]] = {}
        for block, _, scored in self.stages.blocks(questions):
            asked = self.stages.encoded(base, questions)[block]
            for retriever, scores in scored:
                plain = scores.dense if retriever is base else scores.of(asked, base.node_vectors)
                found = self.evidence.candidates(
                    questions.texts[block], scores.dense, scores.words, plain, scores.nodes
                )
                parts.setdefault(hybrid_name(retriever.name), []).append(found)
        whole = {name: Candidates.joined(found) for name, found in parts.items()}
        for stage in self._scorers:
            stage.ensure(questions, [found.nodes for found in whole.values()])
            whole = {
                name: found.with_scores(_SCORES[stage.name], stage.scores(questions, found.nodes))
                for name, found in whole.items()
            }
        self.ranker_seconds += time.monotonic() - start
        self._gathered[known] = whole
        return whole

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
        for name in _REPORTED:
            if name in sets:
                rows += self._ranked(sets[name], choices)
        return pa.concat_tables(rows)

    def _ranked(self, questions: QuestionSet, choices: Choices) -> list[pa.Table]:
        """Return the rankers' rows; a question that fitted one is scored by another folds' one."""
        if not choices.rankers:
            return []
        part = questions.first(self.settings.evaluation.max_late_interaction)
        own = questions.name == choices.chosen_on == PEOPLE
        rows = []
        for name, found in self.gather(part).items():
            staged = staged_name(name, RANKER)
            if staged not in choices.rankers:
                continue
            if own:
                right = found.relevant(part.relevant)
                scores = cross_fitted(found.names, found.features, right, part.clusters)
            else:
                ranker = Ranker(choices.rankers[staged])
                scores = ranker.scores(found.names, found.features)
            rows.append(self._rows(part, staged, by_scores(found.nodes, scores)))
        return rows

    def _staged(
        self, stage: SecondStage, whole: QuestionSet, part: QuestionSet, choices: Choices
    ) -> list[pa.Table]:
        rows = []
        for name, first in self._candidates(stage, whole, part, choices).items():
            staged = staged_name(name, stage.name)
            scores = stage.scores(part, first.nodes[:, : stage.depth])
            mixed = rerank(first, scores, choices.second_stage_weights.get(staged, stage.prior))
            rows.append(self._rows(part, staged, mixed))
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
            adapter.documents(nodes),
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
        folders = {RERANKER: models.reranker}
        begun_with = settings.reranker.model
        if begun_with and is_cross_encoder(folder := resolve_weights(begun_with).folder):
            folders[UNTUNED_RERANKER] = folder
        for name, folder in folders.items():
            stages.append(
                SecondStage(
                    name,
                    Reranker(folder, settings.reranker, settings.compute),
                    passages,
                    work,
                    depth=recipe.rerank_depth,
                    limit=recipe.max_reranked,
                    prior=0.0,
                )
            )
    return stages
