"""All nodes of a version with their texts, terms and vectors, for what looks at all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from ragft_pipeline.evaluation.nodes import Nodes
from ragft_pipeline.evaluation.pool_search import AllNodes
from ragft_pipeline.evaluation.pools import PLAIN, READ
from ragft_pipeline.evaluation.retrievers import Retriever, document_vectors
from ragft_pipeline.evaluation.systems import DenseRetriever, FirstStages
from ragft_pipeline.retrieval.evidence import Evidence
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.terms import cached_terms
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.store.scratch import scratch_array


@dataclass
class WholeCorpus:
    """All nodes; nothing is read of them before it is asked for."""

    nodes: Nodes
    retrievers: Sequence[Retriever]
    settings: Settings
    work: Workspace

    @property
    def opened(self) -> bool:
        """Whether it was looked at."""
        return "evidence" in vars(self)

    @cached_property
    def evidence(self) -> Evidence:
        """All nodes as evidence is drawn from them."""
        passages = self.settings.passages
        return Evidence.of(
            self.nodes.read(),
            passages.context == "on",
            passages.language,
            lambda texts: cached_terms(self.work, texts, passages.language),
            self.nodes.around,
        )

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """The vectors of all nodes by each retriever."""
        ids = self.nodes.ids.to_pylist()
        texts = {PLAIN: dict(zip(ids, self.evidence.texts))}
        if any(own.kind == READ for own in self.retrievers):
            texts[READ] = dict(zip(ids, self.evidence.read))
        return document_vectors(
            self.retrievers, texts, partial(scratch_array, self.work.store.root)
        )

    @cached_property
    def searched(self) -> AllNodes:
        """What cuts pools."""
        return AllNodes(self.evidence, self.vectors)

    @cached_property
    def stages(self) -> FirstStages:
        """The first stages, as a question is put to them alone, or to an index."""
        recipe, evidence = self.settings.evaluation, self.evidence
        lexical = {PLAIN: evidence.plain, READ: evidence.lexical}
        return FirstStages(
            evidence.texts,
            evidence.plain,
            [
                DenseRetriever(
                    own.name,
                    self.vectors[own.name],
                    own.encode,
                    partial(_known, own),
                    lexical[own.kind],
                )
                for own in self.retrievers
            ],
            exact_up_to=recipe.exact_up_to,
            recall=recipe.min_recall,
        )


def _known(retriever: Retriever, questions: QuestionSet) -> np.ndarray:
    return retriever.known(questions.by_id())
