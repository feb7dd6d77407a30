"""The reranker: what its training lists hold, what it learns, and how it loads again."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ragft_pipeline import schemas
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.reranking import (
    Reranker,
    is_cross_encoder,
    load_cross_encoder,
    new_cross_encoder,
)
from ragft_pipeline.retrieval.search import min_max, top_k
from ragft_pipeline.settings import ComputeSettings, RerankerSettings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.tuning.data import Questions, TrainingTables, Validation
from ragft_pipeline.tuning.layers import keep_layers
from ragft_pipeline.tuning.reranker import train_reranker
from ragft_pipeline.tuning.reranker_lists import (
    ListMaker,
    TrainingList,
    distil_target,
    training_columns,
)
from ragft_pipeline.tuning.reranker_training import (
    Candidates,
    ListTraining,
    loss_at_chance,
    stays_at_chance,
)
from ragft_pipeline_tests.conftest import SAMPLE
from ragft_pipeline_tests.short_model import short_embedder, short_settings


def _passages(number: int) -> list[str]:
    texts = [file.read_text(encoding="utf-8") for file in sorted(SAMPLE.rglob("*.md"))]
    parts = [part.strip() for text in texts for part in text.split("\n\n")]
    return [part for part in dict.fromkeys(parts) if 30 <= len(part.split()) <= 60][:number]


def _tables(number: int = 96, train: int = 80) -> tuple[TrainingTables, pa.Table]:
    """Nodes of two a document, a claim of nine words about each, and BM25 as the teacher."""
    texts = _passages(number)
    ids = [f"n{i:03}" for i in range(number)]
    claims = [" ".join(text.split()[8:17]) for text in texts]
    nodes = pa.table(
        {"node_id": ids, "text": texts, "doc_key": [f"d{i // 2}" for i in range(number)]}
    )
    pairs = pa.table(
        {"question_id": [f"q{i:03}" for i in range(number)], "question": claims, "node_id": ids}
    )
    scores = min_max(LexicalIndex(texts[:train]).scores(claims[:train]))
    best = top_k(scores, train)
    rows = [
        {
            "question_id": f"q{row:03}",
            "node_ids": [ids[i] for i in best[row]],
            "scores": scores[row][best[row]].tolist(),
        }
        for row in range(train)
    ]
    tables = TrainingTables(
        pairs.slice(0, train), pairs.slice(train), nodes.slice(0, train), nodes.slice(train)
    )
    return tables, pa.Table.from_pylist(rows, schema=schemas.TEACHER_SCORES.schema)


def _maker(**changes: Any) -> tuple[ListMaker, Questions, RerankerSettings, pa.Table]:
    recipe = RerankerSettings.model_validate(changes)
    tables, teacher = _tables()
    return ListMaker(tables.train_nodes, teacher, recipe), tables.questions(), recipe, teacher


def _work(folder: Path) -> Workspace:
    return Workspace(ArtifactStore(folder), "reranker", folder)


def test_lists_hold_the_declared_mix() -> None:
    maker, questions, _, teacher = _maker(hard_negatives=3, medium_negatives=2, random_negatives=1)
    ranked = {row["question_id"]: row for row in teacher.to_pylist()}
    by_text = dict(zip(questions.texts, zip(questions.ids, questions.node_ids)))
    for one in maker.lists(questions, 0.0):
        question_id, source = by_text[one.question]
        row = ranked[question_id]
        limit = 0.95 * row["scores"][row["node_ids"].index(source)]
        order = [n for n, s in zip(row["node_ids"], row["scores"]) if s < limit and n != source]
        assert one.node_ids[0] == source
        assert len(set(one.node_ids)) == len(one.node_ids) == 7
        assert set(one.node_ids[1:4]) <= set(order[:30])
        assert set(one.node_ids[4:6]) <= set(order[30:90])


def test_likely_false_negatives_are_never_negatives() -> None:
    tables, teacher = _tables()
    rows = teacher.to_pylist()
    for row in rows:  # the runner-up scores as well as the source
        row["scores"] = [1.0, 0.97, *[0.5] * (len(row["node_ids"]) - 2)]
    teacher = pa.Table.from_pylist(rows, schema=teacher.schema)
    maker = ListMaker(tables.train_nodes, teacher, RerankerSettings(random_negatives=8))
    twins = {q: row["node_ids"][1] for q, row in zip(tables.questions().texts, rows)}
    lists = maker.lists(tables.questions(), 0.5)
    assert all(twins[one.question] not in one.node_ids[1:] for one in lists)
    other = [node for row in rows for node in row["node_ids"][2:]]
    assert {node for one in lists for node in one.node_ids[1:]} <= set(other)


def test_easy_lists_come_first_short_and_without_the_sources_document() -> None:
    maker, questions, recipe, _ = _maker(easy_words=20, epochs=2.0)
    lists = maker.lists(questions, 0.25)
    assert len(lists) == 160
    assert [one.easy for one in lists] == [True] * 40 + [False] * 120
    texts = {re.sub(r"\W+", " ", text) for text in _passages(80)}
    for one in lists[:40]:
        documents = [int(node_id[1:]) // 2 for node_id in one.node_ids]
        assert documents[0] not in documents[1:]
        assert all(len(re.findall(r"\w+", part)) <= recipe.easy_words for part in one.passages)
        asked = set(one.question.lower().split())
        assert len(asked & set(one.passages[0].lower().split())) >= 0.7 * len(asked)
    assert all(re.sub(r"\W+", " ", part) in texts for one in lists[40:] for part in one.passages)


def test_windows_of_unspaced_scripts_are_cut_by_characters() -> None:
    nodes = pa.table(
        {
            "node_id": ["a", "b"],
            "doc_key": ["a", "b"],
            "text": [
                "锅炉每天检查一次。" * 9 + "阀门在北墙上。" + "夜班交接要写下来。" * 9,
                "其他的事情。" * 20,
            ],
        }
    )
    teacher = pa.Table.from_pylist(
        [{"question_id": "q", "node_ids": ["a", "b"], "scores": [1.0, 0.0]}],
        schema=schemas.TEACHER_SCORES.schema,
    )
    maker = ListMaker(nodes, teacher, RerankerSettings(easy_words=10))
    (one,) = maker.lists(Questions(["q"], ["阀门在北墙上"], ["a"]), 1.0)
    assert "阀门在北墙上" in one.passages[0]
    assert all(len(re.findall(r"\w", part)) == 10 for part in one.passages)


def test_distil_target_mixes_the_source_with_the_teacher() -> None:
    scores = np.array([0.6, 0.8, 0.1], np.float32)
    recipe = RerankerSettings(source_share=0.3, teacher_temperature=0.2)
    shares = torch.softmax(torch.from_numpy(scores) / 0.2, dim=0).numpy()
    np.testing.assert_allclose(distil_target(scores, recipe), 0.7 * shares + [0.3, 0, 0], rtol=1e-5)
    one = TrainingList("q", ["a", "b", "c"], ["x", "y", "z"], scores, False)
    labels = torch.tensor(training_columns([one], recipe)["labels"])  # ListNet takes their softmax
    np.testing.assert_allclose(labels.softmax(1)[0], distil_target(scores, recipe), rtol=1e-5)


def test_columns_of_the_other_recipes() -> None:
    one = TrainingList("q", ["a", "b", "c"], ["x", "y", "z"], np.zeros(3, np.float32), False)
    pairs = training_columns([one, one], RerankerSettings(recipe="bce"))
    assert pairs["query"] == ["q"] * 6
    assert pairs["passage"] == ["x", "y", "z"] * 2
    assert pairs["label"] == [1.0, 0.0, 0.0] * 2
    ranked = training_columns([one], RerankerSettings(recipe="lambda"))
    assert ranked == {"query": ["q"], "docs": [["x", "y", "z"]], "labels": [[1.0, 0.0, 0.0]]}


def test_a_run_on_short_lists_comes_off_chance(tmp_path: Path) -> None:
    recipe = RerankerSettings(
        source_share=1.0, easy_words=12, epochs=4.0, learning_rate=3e-4,
        hard_negatives=1, medium_negatives=1, random_negatives=0, layers=2,
    )  # fmt: skip
    settings = short_settings(reranker=recipe)
    maker, questions, _, _ = _maker(**recipe.model_dump())
    lists = maker.lists(questions, 1.0)
    weights = resolve_weights(str(short_embedder()))
    _, found = ListTraining(weights, True, lists, None, settings, tmp_path / "trainer")(print)
    chance = math.log(3)
    assert found["loss_first"] == pytest.approx(chance, abs=0.15)
    assert found["loss_last"] < 0.7 * chance


@pytest.mark.parametrize("recipe", ["bce", "lambda", "distill"])
def test_same_seed_gives_the_same_val_metric(tmp_path: Path, recipe: str) -> None:
    tables, teacher = _tables()
    settings = short_settings(
        reranker=RerankerSettings.model_validate(
            {"model": str(short_embedder()), "recipe": recipe, "layers": 1, "max_tokens": 48,
             "max_questions": 24, "evaluations": 1, "val_questions": 8, "val_depths": [5, 10]}
        )
    )  # fmt: skip
    texts = tables.train_nodes.column("text").to_pylist()
    facts = [
        train_reranker(tables, teacher, TermStatistics.of(texts), settings, _work(tmp_path / run))
        for run in ("one", "two")
    ]
    first, second = facts
    assert first["val_ndcg_at_10"] == pytest.approx(second["val_ndcg_at_10"], abs=1e-6)
    by_depth = [first["val_ndcg_at_10_of_5"], first["val_ndcg_at_10_of_10"]]
    assert first["val_ndcg_at_10"] == pytest.approx(np.mean(by_depth))
    assert (first["questions"], first["easy_lists"], first["pairs"]) == (24, 12, 24 * 5)
    assert np.isfinite(first["loss_last"])


def test_val_reranks_no_deeper_than_it_says() -> None:
    questions = Questions(["q"], ["which"], ["c"])
    val = Validation(questions, {"a": "", "b": "", "c": ""})
    candidates = Candidates(val, np.array([[0, 1, 2]]))
    scores = np.array([[0.1, 0.2, 0.3]])
    assert candidates.first_stage() == pytest.approx(0.5)
    assert candidates.ndcg(scores, 2) == pytest.approx(0.5)
    assert candidates.ndcg(scores, 3) == pytest.approx(1.0)


def test_a_saved_folder_is_a_cross_encoder_and_a_start(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    recipe = RerankerSettings(max_tokens=40)
    torch.manual_seed(1)
    model = new_cross_encoder(short_embedder(), recipe, "cpu", torch.float32)
    keep_layers(model.transformers_model, 1)
    model.save_pretrained(str(tmp_path), create_model_card=False)
    pairs = [("the north pump", text) for text in _passages(6)]
    wanted = model.predict(pairs)
    np.testing.assert_allclose(CrossEncoder(str(tmp_path)).predict(pairs), wanted, atol=1e-5)
    assert (
        len(load_cross_encoder(tmp_path, recipe, "cpu", torch.float32)[0].model.encoder.layer) == 1
    )
    assert is_cross_encoder(tmp_path)
    assert not is_cross_encoder(short_embedder())
    for dtype, near in (("float32", 1e-5), ("bfloat16", 0.05)):
        own = Reranker(tmp_path, recipe, ComputeSettings.model_validate({"dtype": dtype}))
        np.testing.assert_allclose(own.score(pairs), wanted, atol=near)


def test_a_cross_encoder_keeps_its_head_and_gets_no_easy_lists(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(2)
    start = AutoModelForSequenceClassification.from_pretrained(str(short_embedder()), num_labels=1)
    start.bert.encoder.layer = start.bert.encoder.layer[:1]
    start.config.num_hidden_layers = 1
    start.save_pretrained(tmp_path / "start")
    AutoTokenizer.from_pretrained(str(short_embedder())).save_pretrained(tmp_path / "start")
    tables, teacher = _tables()
    recipe = RerankerSettings(
        model=str(tmp_path / "start"), max_tokens=48, max_questions=8, learning_rate=1e-6,
        evaluations=1, val_questions=4, val_depths=(5,),
    )  # fmt: skip
    settings = short_settings(reranker=recipe)
    statistics = TermStatistics.of(tables.train_nodes.column("text").to_pylist())
    work = _work(tmp_path / "run")
    assert train_reranker(tables, teacher, statistics, settings, work)["easy_lists"] == 0
    pairs = [("the north pump", text) for text in _passages(4)]
    before = Reranker(tmp_path / "start", recipe, settings.compute).score(pairs)
    after = Reranker(work.model, recipe, settings.compute).score(pairs)
    np.testing.assert_allclose(after, before, atol=0.02)


def test_chance_is_the_loss_of_equal_scores() -> None:
    labels = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0] * 2)
    pairs = RerankerSettings(recipe="bce")
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(4.0))(torch.zeros(10), labels)
    assert loss_at_chance([5, 5], pairs) == pytest.approx(float(loss))
    target = torch.from_numpy(distil_target(np.linspace(0.9, 0.1, 5), RerankerSettings()))
    loss = torch.nn.functional.cross_entropy(torch.zeros(1, 5, dtype=torch.float64), target[None])
    assert loss_at_chance([5, 5], RerankerSettings()) == pytest.approx(float(loss))
    assert not stays_at_chance([2.0] * 8, loss_at_chance([5], RerankerSettings(recipe="lambda")))
    assert stays_at_chance([2.0, 2.0, 1.6, 1.6], math.log(5))
    assert not stays_at_chance([2.0, 2.0, 1.5, 1.5], math.log(5))


def test_a_training_that_stays_at_chance_stops_early_and_says_so(tmp_path: Path) -> None:
    tables, teacher = _tables()
    recipe = RerankerSettings(
        model=str(short_embedder()), layers=1, max_tokens=32, max_questions=80, batch_size=4,
        evaluations=4, learning_rate=1e-9, val_questions=4, val_depths=(5,), easy_words=8,
    )  # fmt: skip
    statistics = TermStatistics.of(tables.train_nodes.column("text").to_pylist())
    work, said = _work(tmp_path), list[str]()
    work.progress = said.append
    facts = train_reranker(tables, teacher, statistics, short_settings(reranker=recipe), work)
    assert (facts["at_chance"], facts["steps"]) == (1.0, 15.0)
    assert said[-1].startswith("reranker: its loss stays at chance, that of equal scores")
