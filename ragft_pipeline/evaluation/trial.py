"""The systems of one corpus version under trial, and their rows on question sets."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.evaluation.choosing import Fused, Plain, Ranked, System
from ragft_pipeline.evaluation.looks import Look, looks
from ragft_pipeline.evaluation.nodes import Nodes
from ragft_pipeline.evaluation.pools import READ, Pool, Shape
from ragft_pipeline.evaluation.question_pools import KeptPools, QuestionPools
from ragft_pipeline.evaluation.ranking import Found
from ragft_pipeline.evaluation.retrievers import Models, Retriever, retrievers_of
from ragft_pipeline.evaluation.second_stages import (
    CROSS_ENCODER_RANKER,
    RANKER,
    PairScores,
    scorers_of,
    staged_name,
)
from ragft_pipeline.evaluation.systems import BASE, BM25, CONTEXT, hybrid_name
from ragft_pipeline.evaluation.whole_corpus import WholeCorpus
from ragft_pipeline.retrieval.evidence import CROSS_ENCODER, LATE_INTERACTION, Candidates
from ragft_pipeline.retrieval.metrics import DEPTH, METRICS, POOLED
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.search import best_mixtures, min_max, top_k
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

ALL = "all"


@dataclass
class Trial:
    """The systems under test over one corpus version's nodes.

    Attributes:
        name: what the files of its pools are called.
        late_interaction: what every ranker looks at, where there is one.
        cross_encoders: by second stage; a ranker over the untuned hybrid looks at each.
        kept: an earlier version's pools, by the same models.
        legible: how far the base embedder reads the corpus, for the rankers' prior.
        ranker_seconds: spent on gathering evidence, late interaction apart.
    """

    name: str
    nodes: Nodes
    retrievers: Sequence[Retriever]
    late_interaction: PairScores | None
    cross_encoders: dict[str, PairScores]
    settings: Settings
    work: Workspace
    kept: KeptPools | None = None
    legible: float = 1.0
    ranker_seconds: float = 0.0
    pools: dict[str, QuestionPools] = field(default_factory=dict)
    whole: WholeCorpus = field(init=False)

    def __post_init__(self) -> None:
        """Have all nodes at hand."""
        self.whole = WholeCorpus(self.nodes, self.retrievers, self.settings, self.work)

    @classmethod
    def of(
        cls,
        name: str,
        nodes: Nodes,
        models: Models,
        settings: Settings,
        work: Workspace,
        kept: KeptPools | None = None,
    ) -> Trial:
        """Build every system that the models make.

        Whether passages are read below their titles and headings is `passages.context`, decided.
        """
        trial = cls(
            name, nodes, retrievers_of(models, settings, work), None, {}, settings, work, kept
        )
        for stage, scorer in scorers_of(models, settings, work).items():
            named = {LATE_INTERACTION: LATE_INTERACTION, CROSS_ENCODER_RANKER: "reranker"}
            scores = PairScores(named.get(stage, "untuned reranker"), scorer, trial.texts, work)
            if stage == LATE_INTERACTION:
                trial.late_interaction = scores
            else:
                trial.cross_encoders[stage] = scores
        return trial

    def texts(self, places: Sequence[int]) -> list[str]:
        """Return the texts of some nodes, ascending, as models read them."""
        if self.whole.opened:
            return [self.whole.evidence.read[place] for place in places]
        if not len(places):
            return []
        pools = self._pools(self.retrievers, ALL)
        return list(pools.cards(places).texts[pools.shape.read])

    @property
    def approximate(self) -> bool:
        """Whether candidates of an index are ranked in place of all nodes."""
        return len(self.nodes) > self.settings.evaluation.exact_up_to

    @property
    def followed(self) -> bool:
        """Whether all questions were followed, so that no node but those was looked at."""
        return self.kept is not None and not self.whole.opened

    @property
    def untuned(self) -> str:
        """The hybrid of the base embedder over the passages as models read them."""
        above = any(own.kind == READ for own in self.retrievers)
        return hybrid_name(CONTEXT if above else BASE)

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
        ranked: dict[str, list[np.ndarray]] = {}
        gathered: dict[str, list[Candidates]] = {}

        def wanted(name: str) -> bool:
            return not only or any(each == name or each.startswith(f"{name} + ") for each in only)

        def rank(name: str, nodes: np.ndarray) -> None:
            ranked.setdefault(name, []).append(nodes)

        chosen = [
            own
            for own in self.retrievers
            if wanted(own.name)
            or wanted(hybrid_name(own.name))
            or (own.name == BASE and wanted(BM25))
        ]
        for look in self._looks(questions, chosen, only):
            hybrid = hybrid_name(look.name)
            if look.name == BASE and wanted(BM25):
                rank(BM25, look.named(top_k(look.words, DEPTH)))
            if wanted(look.name):
                rank(look.name, look.named(top_k(look.dense, DEPTH)))
            if not wanted(hybrid):
                continue
            for weight, best in zip(grid, best_mixtures(look.dense, look.words, grid, DEPTH)):
                rank(f"{hybrid} {weight}", look.named(best))
            start = time.monotonic()
            gathered.setdefault(hybrid, []).append(look.candidates())
            self.ranker_seconds += time.monotonic() - start
        results = {
            name: Found.of(np.concatenate(parts), questions.judged)
            for name, parts in ranked.items()
        }
        names = [BM25, *(each.name for each in self.retrievers)]
        systems: list[System] = [Plain(name, results[name]) for name in names if name in results]
        systems += [
            Fused(name, grid, [results[f"{name} {weight}"] for weight in grid]) for name in gathered
        ]
        systems += self._ranked(questions, gathered)
        return systems if not only else [each for each in systems if each.name in only]

    def _looks(
        self, questions: QuestionSet, chosen: Sequence[Retriever], only: Collection[str]
    ) -> Iterator[Look]:
        """Yield the looks of some retrievers' hybrids at blocks of questions, in their order."""
        if self.approximate:
            yield from self._candidates(questions, [own.name for own in chosen])
            return
        base = self.retrievers[0]
        used = [own for own in self.retrievers if own in chosen or own is base]
        title = "_".join(re.sub(r"\W+", "_", name) for name in only) or ALL
        pools = self._pools(used, title, alone={BASE, BM25}.issuperset(only or (ALL,)))
        asked, names = pools.of(questions), [own.name for own in chosen]
        for _, block in looks(asked, pools.tally, pools.shape, self.nodes.around, base.name, names):
            yield from block

    def _candidates(self, questions: QuestionSet, names: Collection[str]) -> Iterator[Look]:
        """Yield looks at an index's candidates, which are scaled among themselves."""
        base = self.whole.stages.retrievers[0]
        for block, _, scored in self.whole.stages.blocks(questions):
            asked = self.whole.stages.encoded(base, questions)[block]
            for retriever, scores in scored:
                if retriever.name not in names or scores.nodes is None:
                    continue
                plain = scores.dense if retriever is base else scores.of(asked, base.node_vectors)
                yield Look(
                    retriever.name,
                    min_max(scores.dense),
                    min_max(scores.words),
                    scores.nodes,
                    partial(
                        self.whole.evidence.candidates,
                        questions.texts[block], scores.dense, scores.words, plain, scores.nodes,
                    ),
                )  # fmt: skip

    def _pools(
        self, retrievers: Sequence[Retriever], title: str, alone: bool = False
    ) -> QuestionPools:
        """Return the pools by some retrievers.

        Args:
            title: says which systems they are for.
            alone: whether no hybrid is among these.
        """
        if title not in self.pools:
            grid = () if alone else self.settings.evaluation.fusion_weights
            shape = Shape({own.name: own.kind for own in retrievers}, tuple(grid))
            self.pools[title] = QuestionPools(
                f"pools_{self.name}_{title}",
                shape,
                self.nodes,
                retrievers,
                lambda: self.whole.searched,
                self.settings,
                self.work,
                self.kept,
            )
        return self.pools[title]

    def save(self) -> None:
        """Keep the pools in the artifact."""
        for pools in self.pools.values():
            if pools.found:
                pools.save()

    def _ranked(
        self, questions: QuestionSet, gathered: dict[str, list[Candidates]]
    ) -> Iterator[System]:
        """Yield the rankers over each hybrid's candidates."""
        whole = {name: Candidates.joined(parts) for name, parts in gathered.items()}
        if self.late_interaction is not None and whole:
            scores = self._judged(self.late_interaction, questions, whole)
            whole = {
                name: found.with_scores(LATE_INTERACTION, scores[name])
                for name, found in whole.items()
            }
        stages = [(name, RANKER, found) for name, found in whole.items()]
        if self.untuned in whole and len(questions) <= self.settings.evaluation.max_reranked:
            found = whole[self.untuned]
            for stage, scorer in self.cross_encoders.items():
                scores = self._judged(scorer, questions, {self.untuned: found})
                read = found.with_scores(CROSS_ENCODER, scores[self.untuned])
                stages.append((self.untuned, stage, read))
        for name, stage, found in stages:
            yield Ranked(staged_name(name, stage), found, questions, self.legible)

    def _judged(
        self, scorer: PairScores, questions: QuestionSet, found: Mapping[str, Candidates]
    ) -> dict[str, np.ndarray]:
        """Return a second stage's scores of hybrids' candidates; pools keep them."""
        nodes = [own.nodes for own in found.values()]
        pools: list[Pool] = []
        if ALL in self.pools:
            pools = [self.pools[ALL].found[key] for key in questions.ids]
        for key, pool in zip(questions.ids, pools):
            scorer.know(key, pool)
        scorer.ensure(questions, nodes)
        for row, (key, pool) in enumerate(zip(questions.ids, pools)):
            scorer.tell(key, pool, np.unique(np.concatenate([own[row] for own in nodes])))
        return {name: scorer.scores(questions, own.nodes) for name, own in found.items()}

    def rows(self, questions: QuestionSet, system: str, found: Found) -> pa.Table:
        """Return the EVAL_ROWS of a system's results on a set."""
        number = len(questions)
        top = self.nodes.named(found.top.reshape(-1).tolist())
        width = found.top.shape[1]
        relevant = [sorted(self.nodes.named(sorted(wanted))) for wanted in questions.relevant]
        return pa.table(
            {
                "question_id": questions.ids,
                "question": questions.texts,
                "question_set": [questions.name] * number,
                "system": [system] * number,
                "cluster": questions.clusters,
                "held_out": questions.held_out,
                "relevant": relevant,
                "top_nodes": [top[row * width : (row + 1) * width] for row in range(number)],
                "first_rank": found.scores["first_rank"].astype(int),
                **{metric: found.scores[metric] for metric in METRICS},
                **{name: pa.array(found.scores[name], from_pandas=True) for name in POOLED},
            },
            schema=schemas.EVAL_ROWS.schema,
        )
