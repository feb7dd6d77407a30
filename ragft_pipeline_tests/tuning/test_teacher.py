"""The teacher: whom it trusts, and what a user's cross-encoder changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from ragft_pipeline import schemas
from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.retrieval.reranking import new_cross_encoder
from ragft_pipeline.settings import RerankerSettings, Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.tuning.choosing_questions import DEPTH, ChoosingQuestions
from ragft_pipeline.tuning.data import TrainingTables
from ragft_pipeline.tuning.followed_lists import FirstLook
from ragft_pipeline.tuning.teacher import score_with_teacher
from ragft_pipeline.tuning.teacher_weight import WEIGHTS, TeacherWeight, choose_teacher_weight

BLANKS = {pa.string(): "", pa.list_(pa.string()): []}

THINGS = (
    ("dog", "The hound guards the yard and barks at strangers."),
    ("car", "The automobile is washed on the forecourt each evening."),
    ("doctor", "The physician sees the crew once a month in the infirmary."),
    ("boat", "The vessel leaves the quay with the ebb."),
    ("money", "The currency of the canteen is a brass token."),
    ("rain", "A downpour floods the lower shed within the hour."),
)
FORMS = ("signature", "carbon copy", "stamp", "serial")
NUMBERS = tuple(f"K{n}{n + 3}7-{n}" for n in range(8))


def _tables(questions: dict[str, str], nodes: dict[str, str], split: str) -> TrainingTables:
    """Train and val of the same kind; the val questions are in their own words."""

    def filled(rows: list[dict[str, object]], schema: pa.Schema) -> pa.Table:
        blank = {field.name: BLANKS.get(field.type, 0) for field in schema}
        return pa.Table.from_pylist([{**blank, **row} for row in rows], schema=schema)

    def pairs(kind: str) -> pa.Table:
        return filled(
            [
                {"question_id": f"{kind}-{text}", "question": text, "kind": kind, "node_id": node,
                 "doc_key": node, "answer_end": 5}
                for text, node in questions.items()
            ],
            schemas.QA_PAIRS.schema,
        )  # fmt: skip

    table = filled(
        [
            {"node_id": node, "doc_key": node, "text": text, "end_char": len(text), "split": split}
            for node, text in nodes.items()
        ],
        schemas.NODES.schema,
    )
    empty = table.slice(0, 0)
    return TrainingTables(pairs("claim"), pairs("llm"), table, empty)


def _by_meaning() -> TrainingTables:
    """Questions that share their words with another node: only the embedder finds the answer."""
    nodes = dict(THINGS)
    nodes |= {f"form{n}": f"{form} of the form {n}." for n, form in enumerate(FORMS)}
    questions = {f"{form} {word}": word for word, _ in THINGS for form in FORMS}
    return _tables(questions, nodes, "train")


def _by_number() -> TrainingTables:
    """Questions for identifiers."""
    nodes = {number: f"Part {number} is held in the store." for number in NUMBERS}
    questions = {form.format(n): n for n in NUMBERS for form in ("{}", "find {}", "stock of {}")}
    return _tables(questions, nodes, "train")


def _chosen(
    tables: TrainingTables, folder: Path, gold: pa.Table | None = None, **teacher: object
) -> TeacherWeight:
    folder.mkdir(exist_ok=True)
    settings = Settings(store=str(folder), teacher=teacher)
    statistics = TermStatistics.of(list(tables.nodes().values()))
    gold = schemas.GOLD_QUESTIONS.schema.empty_table() if gold is None else gold
    work = Workspace(ArtifactStore(folder), "teacher_scores", folder)
    return choose_teacher_weight(
        settings.teacher,
        lambda: ChoosingQuestions.of(gold, tables.val_pairs, tables.train_nodes),
        lambda: FirstLook(
            lambda _: tables.nodes(), statistics, WEIGHTS, DEPTH, settings, work, "weight"
        ),
    )


def _gold(tables: TrainingTables, split: str) -> pa.Table:
    rows = [
        {"question_id": f"g{n}", "question": row["question"], "doc_key": row["node_id"],
         "cluster": f"c{n}", "split": split,
         "answers": [{"start": 0, "end": 5}]}
        for n, row in enumerate(3 * tables.val_pairs.to_pylist())
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schemas.GOLD_QUESTIONS.schema)


def test_trusts_whichever_part_finds_the_answers(tmp_path: Path) -> None:
    meaning = _chosen(_by_meaning(), tmp_path / "meaning")
    number = _chosen(_by_number(), tmp_path / "number")
    assert meaning.chosen_on == number.chosen_on == "synthetic_val"
    assert meaning.bm25_weight < 0.5 <= number.bm25_weight


def test_questions_cut_from_their_node_or_too_few_choose_nothing(tmp_path: Path) -> None:
    tables = _by_meaning()
    verbatim = replace(tables, val_pairs=tables.train_pairs)
    assert _chosen(verbatim, tmp_path) == TeacherWeight(0.5, "nothing")
    few = replace(tables, val_pairs=tables.val_pairs.slice(0, 19))
    assert _chosen(few, tmp_path) == TeacherWeight(0.5, "nothing")


def test_peoples_dev_questions_choose_but_never_about_test_documents(tmp_path: Path) -> None:
    tables = _by_meaning()
    unasked = replace(tables, val_pairs=tables.val_pairs.slice(0, 0))
    seen = _chosen(unasked, tmp_path, _gold(tables, "train"))
    assert seen.chosen_on == "people"
    assert seen.bm25_weight < 0.5
    assert _chosen(unasked, tmp_path, _gold(tables, "test")).chosen_on == "nothing"


def test_a_weight_in_the_settings_is_taken(tmp_path: Path) -> None:
    chosen = _chosen(_by_meaning(), tmp_path, bm25_weight=0.3)
    assert chosen == TeacherWeight(0.3, "settings")


def _taught(folder: Path, **teacher: object) -> pa.Table:
    tables = _by_meaning()
    statistics = TermStatistics.of(list(node_texts(tables.train_nodes).values()))
    folder.mkdir(exist_ok=True)
    return score_with_teacher(
        tables.train_pairs, tables.train_nodes, statistics, 0.5,
        Settings(store=str(folder), teacher=teacher),
        Workspace(ArtifactStore(folder), "teacher_scores", folder),
    )  # fmt: skip


def test_a_cross_encoder_orders_the_best_anew_and_leaves_the_rest_below(tmp_path: Path) -> None:
    base = resolve_weights("embedded:all-minilm-l6-v2").folder
    model = new_cross_encoder(base, RerankerSettings(layers=3), "cpu", torch.float32)
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    plain = _taught(tmp_path / "plain").to_pylist()
    settings = {"model": str(tmp_path / "model"), "model_weight": 1.0, "reranked": 3}
    judged = _taught(tmp_path / "judged", **settings).to_pylist()
    assert any(one["node_ids"] != other["node_ids"] for one, other in zip(plain, judged))
    for one, other in zip(plain, judged):
        assert set(one["node_ids"][:3]) == set(other["node_ids"][:3])
        assert one["node_ids"][3:] == other["node_ids"][3:]
        assert np.all(np.diff(other["scores"]) <= 1e-6)
        assert other["scores"][0] == pytest.approx(1.0)


def test_an_embedder_is_refused_as_a_cross_encoder(tmp_path: Path) -> None:
    with pytest.raises(RagftError, match="is no cross-encoder"):
        _taught(tmp_path, model="embedded:all-minilm-l6-v2")
