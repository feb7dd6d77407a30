"""Choosing by questions, and by none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest

from ragft_pipeline.evaluation.choosing import prior_choice
from ragft_pipeline.evaluation.nodes import Nodes
from ragft_pipeline.evaluation.pools import PLAIN
from ragft_pipeline.evaluation.retrieval_eval import rows_of
from ragft_pipeline.evaluation.retrievers import Retriever
from ragft_pipeline.evaluation.second_stages import CROSS_ENCODER_RANKER, PairScores
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.retrieval.evidence import LATE_INTERACTION
from ragft_pipeline.retrieval.question_sets import SERVED, QuestionSet
from ragft_pipeline.retrieval.ranker import PRIOR
from ragft_pipeline.schemas import NODES
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline_tests.corpora import nodes_table

RANKED = "hybrid(base) + ranker"
TEXTS = ["red pump", "blue valve", "green boiler"]


class SameWords:
    """A scorer that counts shared words."""

    identity = "same words"

    def score(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        return np.array([len(set(q.split()) & set(t.split())) for q, t in pairs], np.float32)


class Numbered:
    """Vectors of questions by the digit that they end with, of passages by their order."""

    def encode(self, questions: Sequence[str]) -> np.ndarray:
        return np.array([np.eye(3, dtype=np.float32)[int(text[-1])] for text in questions])

    def known(self, texts: Mapping[str, str], kind: str) -> np.ndarray:
        if kind == "query":
            return self.encode(list(texts.values()))
        return np.eye(3, dtype=np.float32)


def _trial(folder: Path) -> Trial:
    work = Workspace(ArtifactStore(folder), "retrieval_eval", folder)
    NODES.layout.write(nodes_table(TEXTS), folder / "nodes")
    base = Settings()
    alone = base.passages.model_copy(update={"context": "off"})
    settings = base.model_copy(update={"passages": alone})
    nodes, retriever = Nodes(folder / "nodes"), Retriever("base", PLAIN, Numbered())
    trial = Trial("released", nodes, [retriever], None, {}, settings, work)
    trial.late_interaction = PairScores(LATE_INTERACTION, SameWords(), trial.texts, work)
    cross = PairScores("reranker", SameWords(), trial.texts, work)
    trial.cross_encoders = {CROSS_ENCODER_RANKER: cross}
    return trial


def _asked(*places: int) -> QuestionSet:
    ids, texts = [f"q{i}" for i in places], [f"what is thing {i}" for i in places]
    judged = [{i: 1} for i in places]
    return QuestionSet(SERVED, ids, texts, ids, [False] * len(places), judged)


def test_systems_come_the_cheapest_first() -> None:
    names = ["bm25", "base", "hybrid(base)", RANKED, f"{RANKED} + cross-encoder"]
    with TemporaryDirectory() as folder:
        trial = _trial(Path(folder))
        assert [system.name for system in trial.measure(_asked(0, 1))] == names
        only = trial.measure(_asked(0, 1), only=(RANKED,))
        assert [system.name for system in only] == [RANKED]
    assert trial.prior == RANKED


def test_without_questions_every_weight_is_the_shipped_one(tmp_path: Path) -> None:
    systems = _trial(tmp_path).measure(_asked(0))
    choices = prior_choice(systems, RANKED)
    assert choices.whole.weights["hybrid(base)"] == 0.5
    ranker = choices.whole.weights[RANKED]
    assert isinstance(ranker, dict)
    assert ranker.items() <= PRIOR.items()


def test_rows_use_the_chosen_weights(tmp_path: Path) -> None:
    trial = _trial(tmp_path)
    asked = QuestionSet(SERVED, ["q"], ["blue valve 0"], ["c"], [True], [{1: 1}])
    systems = trial.measure(asked)
    choices = prior_choice(systems, RANKED)
    rows = pa.concat_tables(rows_of(trial, asked, systems, choices)).to_pylist()
    found = {row["system"]: row["first_rank"] for row in rows}
    assert found["base"] == 2
    assert found["candidate"] == found[RANKED] == 1


def test_a_part_of_a_set_does_not_lend_its_vectors_to_the_whole(tmp_path: Path) -> None:
    trial = _trial(tmp_path)
    trial.measure(_asked(2))
    (base,) = trial.measure(_asked(0, 1, 2), only=("base",))
    assert base.found(None, np.ones(3, bool)).scores["first_rank"].tolist() == [1, 1, 1]


def test_a_cross_encoder_is_measured_on_all_questions_or_not_at_all(tmp_path: Path) -> None:
    trial = _trial(tmp_path)
    few = trial.settings.evaluation.model_copy(update={"max_reranked": 1})
    trial.settings = trial.settings.model_copy(update={"evaluation": few})
    assert trial.measure(_asked(0, 1))[-1].name == RANKED


def test_peoples_questions_fit_a_ranker(tmp_path: Path) -> None:
    (system,) = _trial(tmp_path).measure(_asked(0, 1), only=(RANKED,))
    assert system.fit(np.ones(2, bool)) != system.fit(np.zeros(2, bool))


def test_grades_and_what_nobody_judged_are_in_the_rows(tmp_path: Path) -> None:
    trial = _trial(tmp_path)
    judged = [{1: 1, 2: 3}, {1: 1, 0: 0}]  # the second was judged from a pool
    texts = ["blue valve 0", "blue valve 1"]
    asked = QuestionSet(SERVED, ["q", "r"], texts, ["c", "d"], [True] * 2, judged)
    systems = trial.measure(asked)
    rows = pa.concat_tables(rows_of(trial, asked, systems, prior_choice(systems, RANKED)))
    graded, pooled = (row for row in rows.to_pylist() if row["system"] == "base")
    assert graded["top_nodes"] == ["a", "b", "c"]
    ideal = 3 + 1 / np.log2(3)
    assert graded["ndcg_at_10"] == pytest.approx((1 / np.log2(3) + 3 / 2) / ideal)
    assert graded["relevant"] == ["b", "c"]
    assert graded["unjudged_at_10"] is graded["condensed_ndcg_at_10"] is None
    assert pooled["relevant"] == ["b"]
    assert pooled["unjudged_at_10"] == pytest.approx(1 / 3)
    assert pooled["condensed_ndcg_at_10"] == 1.0
