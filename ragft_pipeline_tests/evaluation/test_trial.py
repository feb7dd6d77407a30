"""Choosing by questions, and by none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragft_pipeline.evaluation.second_stages import LATE_INTERACTION, SecondStage
from ragft_pipeline.evaluation.systems import DenseRetriever, FirstStages
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.retrieval.evidence import Evidence
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.ranker import PRIOR
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline_tests.corpora import nodes_table

TEXTS = ["red pump", "blue valve", "green boiler"]


class SameWords:
    """A scorer that counts shared words."""

    identity = "same words"

    def score(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        return np.array([len(set(q.split()) & set(t.split())) for q, t in pairs], np.float32)


def _known(asked: QuestionSet) -> np.ndarray:
    return np.array([np.eye(3, dtype=np.float32)[int(question[-1])] for question in asked.texts])


def _trial(folder: Path) -> Trial:
    work = Workspace(ArtifactStore(folder), "retrieval_eval", folder)
    vectors = np.eye(3, dtype=np.float32)
    evidence = Evidence(nodes_table(TEXTS), context=False, language="auto")
    retriever = DenseRetriever("base", vectors, lambda texts: vectors, _known, evidence.plain)
    stages = FirstStages(TEXTS, evidence.plain, [retriever])
    late = SecondStage(LATE_INTERACTION, SameWords(), TEXTS, work, depth=2, limit=9, prior=0.5)
    return Trial(["a", "b", "c"], stages, [late], evidence, Settings())


def test_without_questions_every_weight_is_the_usual_one(tmp_path: Path) -> None:
    choices = _trial(tmp_path).choose(QuestionSet.empty())
    assert choices.chosen_on == "none"
    assert choices.fusion_weights == {"base": 0.5}
    staged = {"hybrid(base) + late interaction": 0.5, "hybrid(base) + ranker": 1.0}
    assert choices.second_stage_weights == staged
    assert choices.rankers["hybrid(base) + ranker"].items() <= PRIOR.items()


def test_rows_use_the_chosen_weights(tmp_path: Path) -> None:
    trial = _trial(tmp_path)
    asked = QuestionSet("gold_test", ["q"], ["blue valve 0"], ["c"], [True], [frozenset({1})])
    rows = trial.rows({"gold_test": asked}, trial.choose(asked)).to_pylist()
    found = {row["system"]: row["first_rank"] for row in rows}
    assert found["base"] == 2
    assert found["hybrid(base) + late interaction"] == 1


def test_a_part_of_a_set_does_not_lend_its_vectors_to_the_whole(tmp_path: Path) -> None:
    def asked(*places: int) -> QuestionSet:
        number = len(places)
        ids, texts = [f"q{i}" for i in places], [f"what is thing {i}" for i in places]
        relevant = [frozenset({i}) for i in places]
        clusters = ["c"] * number
        return QuestionSet("synthetic_val", ids, texts, clusters, [False] * number, relevant)

    trial = _trial(tmp_path)
    choices = trial.choose(asked(2))
    rows = trial.rows({"synthetic_val": asked(0, 1, 2)}, choices).to_pylist()
    assert [row["first_rank"] for row in rows if row["system"] == "base"] == [1, 1, 1]


@pytest.mark.parametrize(("name", "fits"), [("gold_dev", True), ("synthetic_val", False)])
def test_only_peoples_questions_fit_a_ranker(tmp_path: Path, name: str, fits: bool) -> None:
    asked = QuestionSet(
        name, ["q", "r"], ["blue valve 0", "red pump 1"], ["c", "d"], [False] * 2,
        [frozenset({1}), frozenset({0})],
    )  # fmt: skip
    weights = _trial(tmp_path).choose(asked).rankers["hybrid(base) + ranker"]
    assert (weights != {evidence: PRIOR[evidence] for evidence in weights}) == fits
