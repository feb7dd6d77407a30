"""The questions that choose how passages are read and taught, over lists that follow an edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.retrieval.metrics import PRIMARY, score_rankings
from ragft_pipeline.retrieval.question_sets import (
    QuestionSet,
    nodes_asked_about,
    questions_that_choose,
)
from ragft_pipeline.tuning.data import Questions
from ragft_pipeline.tuning.followed_lists import FirstLook

DEPTH = 10  # of a list: what nDCG@10 looks at
_ENOUGH = 20  # fewer questions choose nothing


@dataclass(frozen=True)
class ChoosingQuestions:
    """Questions about train and val documents, and the ids that their nodes' places are of."""

    questions: QuestionSet
    node_ids: Sequence[str]

    @classmethod
    def of(cls, gold: pa.Table, val_pairs: pa.Table, places: pa.Table) -> ChoosingQuestions:
        """Take people's questions, or else val questions in their own words.

        Args:
            gold: GOLD_QUESTIONS; of these, questions about train and val documents choose.
            val_pairs: QA_PAIRS of val.
            places: where the nodes of train and val stand, columns of NODES without their texts.
        """
        places = nodes_asked_about(places, gold, val_pairs)
        node_ids = sorted(set(places.column("node_id").to_pylist()))
        column = {node_id: place for place, node_id in enumerate(node_ids)}
        return cls(questions_that_choose(gold, val_pairs, places, column, _ENOUGH), node_ids)

    def scores(self, look: FirstLook) -> list[np.ndarray]:
        """Return each question's nDCG@10 by each of the look's weights, and keep the lists."""
        asked = self.questions
        lists = look.lists(Questions(asked.ids, asked.texts, [""] * len(asked)))
        look.save(lists)
        known, found = pa.array(self.node_ids, pa.string()), []
        for own in lists:
            names, nodes, _ = own.best(asked.ids, DEPTH)
            at = pc.fill_null(pc.index_in(names, known), -1).to_numpy()
            ranking = np.where(nodes < 0, -1, at[nodes])
            found.append(score_rankings(ranking, asked.relevant)[PRIMARY])
        return found
