"""Tuning the towers: a small real corpus, the real teacher, the embedded model's first layers."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from ragft_pipeline import schemas
from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.settings import ComputeSettings, Settings, TunedEmbedderSettings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.tuning import towers
from ragft_pipeline.tuning.data import TrainingTables
from ragft_pipeline.tuning.embedder import (
    Tuned,
    choose_strength,
    fit_embedder,
    interpolate,
    refit_embedder,
    train_embedder,
)
from ragft_pipeline.tuning.teacher import score_with_teacher
from ragft_pipeline.tuning.towers import (
    Towers,
    false_negatives,
    neighbourhoods,
    passage_steps,
    ranking_loss,
)
from ragft_pipeline_tests.short_model import short_settings

BLANKS = {pa.string(): "", pa.list_(pa.string()): []}

PARTS = ("pump", "valve", "boiler", "meter", "strainer", "chimney", "relay", "tank")
DUTIES = ("is cleaned each spring by the duty engineer", "must be sealed before it is filled")
QUESTIONS = ("who looks after the {}", "{} maintenance rule")


def _rows(split: str, parts: tuple[str, ...]) -> tuple[pa.Table, pa.Table]:
    nodes, pairs = [], []
    for part in parts:
        for number, duty in enumerate(DUTIES):
            node_id = f"{split}-{part}-{number}"
            nodes.append({"node_id": node_id, "text": f"The {part} {duty}, in {split} works."})
            pairs += [
                {
                    "question_id": f"{node_id}-{kind}",
                    "question": f"{question.format(part)} {duty.split()[-1]}",
                    "kind": str(kind),
                    "node_id": node_id,
                }
                for kind, question in enumerate(QUESTIONS)
            ]
    return _filled(pairs, schemas.QA_PAIRS.schema), _filled(nodes, schemas.NODES.schema)


def _filled(rows: list[dict[str, str]], schema: pa.Schema) -> pa.Table:
    blank = {field.name: BLANKS.get(field.type, 0) for field in schema}
    return pa.Table.from_pylist([{**blank, **row} for row in rows], schema=schema)


def _settings(store: Path, **changes: object) -> Settings:
    recipe = {"batch_size": 8, "neighbours": 4, "strengths": [1.0], "learning_rate": 1e-3}
    return short_settings(store=str(store), tuned_embedder={**recipe, **changes})


@dataclass(frozen=True)
class Task:
    tables: TrainingTables
    teacher: pa.Table
    store: Path

    def settings(self, **changes: object) -> Settings:
        return _settings(self.store, **changes)

    def work(self, folder: Path) -> Workspace:
        folder.mkdir(exist_ok=True)
        return Workspace(ArtifactStore(self.store), "tuned_embedder", folder)

    def fit(self, folder: Path, **changes: object) -> Tuned:
        return fit_embedder(
            self.tables.questions(), self.tables.nodes(), self.teacher,
            self.settings(**changes), self.work(folder),
        )  # fmt: skip


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    store = tmp_path_factory.mktemp("store")
    train_pairs, train_nodes = _rows("train", PARTS)
    val_pairs, val_nodes = _rows("val", PARTS[:3])
    tables = TrainingTables(train_pairs, val_pairs, train_nodes, val_nodes)
    statistics = TermStatistics.of(list(node_texts(train_nodes).values()))
    work = Workspace(ArtifactStore(store), "teacher_scores", tmp_path_factory.mktemp("teacher"))
    teacher = score_with_teacher(train_pairs, train_nodes, statistics, 0.5, _settings(store), work)
    return Task(tables, teacher, store)


def _difference(one: Tuned, other: Tuned) -> float:
    return max(float((one.end[n] - other.end[n]).abs().max()) for n in one.end)


def test_the_same_seed_gives_the_same_val_metric(task: Task, tmp_path: Path) -> None:
    facts = []
    for name in ("one", "two"):
        work = task.work(tmp_path / name)
        facts.append(train_embedder(task.tables, task.teacher, task.settings(), work))
    assert facts[0] == facts[1]
    assert facts[0]["steps"] == 2
    assert facts[0]["val_questions"] == 12


def test_frozen_layers_keep_the_weights_of_the_base(task: Task, tmp_path: Path) -> None:
    tuned = task.fit(tmp_path, frozen_layers=0.5)
    moved = {name for name in tuned.end if not torch.equal(tuned.start[name], tuned.end[name])}
    layers = {int(name.split("layer.")[1].split(".")[0]) for name in moved if "layer." in name}
    assert layers == {1}  # of 0 and 1
    assert not [name for name in moved if "embeddings" in name]


def test_a_step_encodes_each_passage_once_with_all_its_questions(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Counter[str]] = []
    backward = Towers.backward

    def spy(self: Towers, texts: list[str], loss_of: object) -> float:
        encoded.append(Counter(texts))
        return backward(self, texts, loss_of)  # type: ignore[arg-type]

    monkeypatch.setattr(Towers, "backward", spy)
    task.fit(tmp_path)
    texts = set(task.tables.nodes().values())
    passages = [{text for text in step if text in texts} for step in encoded]
    assert [len(step) for step in passages] == [8, 8]
    assert set.union(*passages) == texts
    assert max(count for step in encoded for text, count in step.items() if text in texts) == 1
    assert sum(step.total() for step in encoded) == len(texts) + len(task.tables.questions())


def test_hard_negatives_join_a_step_and_are_no_answers(task: Task, tmp_path: Path) -> None:
    lesson = _lesson(task, tmp_path)
    recipe = task.settings(hard_negatives=2, batch_size=4).tuned_embedder
    for rows, columns in passage_steps(lesson, recipe, epoch=0):
        sources = np.unique(lesson.own[rows])
        assert set(sources) < set(columns.tolist())
        mined = towers.hard_negatives(lesson, rows, recipe)
        scores, own = lesson.teacher.dense(rows, np.arange(len(lesson.passages)))
        surely_below = scores < 0.9 * scores[np.arange(len(rows)), own][:, None]
        assert surely_below[:, mined].any(axis=0).all()


def _lesson(task: Task, folder: Path) -> towers.Lesson:
    questions, nodes = task.tables.questions(), task.tables.nodes()
    encoder = Encoder.base(task.settings().embedder, task.settings().compute)
    vectors = encoder.encode(list(nodes.values()), "document")
    return towers.Lesson(
        questions.texts,
        list(nodes.values()),
        np.array([list(nodes).index(node_id) for node_id in questions.node_ids]),
        vectors,
        towers.TeacherLists(task.teacher, questions, list(nodes)),
    )


def test_neighbourhoods_hold_every_row_once_and_what_lies_near() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(4, 16))
    vectors = np.repeat(centres, 8, axis=0) + 0.01 * random.normal(size=(32, 16))
    groups = neighbourhoods(np.arange(32), vectors, 8, random)
    assert sorted(np.concatenate(groups).tolist()) == list(range(32))
    assert max(len(group) for group in groups) <= 8
    spread = np.mean([np.var(vectors[group], axis=0).sum() for group in groups])
    assert spread < 0.6 * np.var(vectors, axis=0).sum()


def test_a_passage_that_answers_as_well_is_no_negative() -> None:
    teacher = torch.tensor([[0.8, 0.75, 0.1], [0.2, 0.4, 0.9]])
    own = torch.tensor([0, 1])
    masked = false_negatives(teacher, own, 0.9)
    assert masked.tolist() == [[False, True, False], [False, False, True]]
    recipe = TunedEmbedderSettings(teacher_weight=0.0, source_weight=1.0)
    cosines = torch.tensor([[0.5, 0.6, 0.1], [0.1, 0.5, 0.7]], requires_grad=True)
    ranking_loss(cosines, teacher, own, recipe).backward()
    assert cosines.grad is not None
    assert ((cosines.grad == 0) == masked).all()


def test_the_teacher_moves_the_student_to_its_own_scores() -> None:
    recipe = TunedEmbedderSettings(recipe="query_tower")
    assert recipe.loss_weights == (1.0, 0.1)
    assert TunedEmbedderSettings().loss_weights == (0.0, 1.0)
    teacher, own = torch.tensor([[1.0, 0.9, 0.0]]), torch.tensor([0])
    agreeing, other = torch.tensor([[0.6, 0.55, 0.1]]), torch.tensor([[0.6, 0.1, 0.1]])
    assert ranking_loss(agreeing, teacher, own, recipe) < ranking_loss(other, teacher, own, recipe)


def test_gradients_are_the_same_however_many_activations_are_kept(
    task: Task, tmp_path: Path
) -> None:
    lesson, compute = _lesson(task, tmp_path), ComputeSettings(batch_size=3)
    recipe = task.settings(matryoshka=[96]).tuned_embedder
    gradients = []
    for room in (10**6, 60, 0):
        model = Encoder.base(task.settings().embedder, task.settings().compute).model
        one = Towers(model, recipe, compute)
        one._room = room
        step = passage_steps(lesson, recipe, epoch=0)[0]
        towers._add_gradients(one, lesson, step, recipe, one_sided=False)
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    whole, *others = gradients
    for parts in others:
        assert whole.keys() == parts.keys()
        for name, gradient in whole.items():
            scale = float(gradient.abs().max())
            np.testing.assert_allclose(parts[name], gradient, atol=1e-4 * scale + 1e-8)


def test_a_killed_training_goes_on_and_ends_the_same(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = task.fit(tmp_path, epochs=2.0)
    backward, taken = Towers.backward, []

    def killed(self: Towers, *arguments: object) -> float:
        taken.append(1)
        if len(taken) == 4:
            raise KeyboardInterrupt
        return backward(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Towers, "backward", killed)
    monkeypatch.setattr("ragft_pipeline.tuning.checkpoint._SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        task.fit(tmp_path, epochs=2.0)
    resumed = task.fit(tmp_path, epochs=2.0)
    assert len(taken) == 4 + 1
    assert len(resumed.losses) == len(whole.losses) == 4
    np.testing.assert_allclose(resumed.losses, whole.losses, atol=1e-5)
    assert _difference(resumed, whole) < 1e-5
    path = resumed.checkpoint.path
    path.write_bytes(path.read_bytes()[:1000])
    monkeypatch.setattr("ragft_pipeline.tuning.checkpoint._SECONDS", 60.0)
    assert task.fit(tmp_path, epochs=2.0).losses == pytest.approx(whole.losses, abs=1e-5)
    resumed.checkpoint.discard()
    assert not path.parent.exists()


def test_interpolation_runs_from_base_to_tuned(task: Task, tmp_path: Path) -> None:
    tuned = task.fit(tmp_path)
    for strength, ends in ((0.0, tuned.start), (1.0, tuned.end)):
        state = interpolate(tuned.start, tuned.end, strength)
        assert all(torch.allclose(state[name], ends[name]) for name in ends)
    name = next(name for name in reversed(tuned.end) if "query.weight" in name)
    assert not torch.equal(tuned.start[name], tuned.end[name])


def test_a_strength_that_harms_a_kind_of_question_is_out() -> None:
    before = np.full(60, 0.5)
    kinds = ["claim"] * 30 + ["keywords"] * 30
    noise = np.tile([-0.05, 0.05], 15)
    good = before + np.concatenate([noise + 0.1, noise])
    harmful = before + np.concatenate([noise + 0.4, noise - 0.1])
    assert choose_strength([0.5, 1.0], before, [good, harmful], kinds)[0] == 0.5
    strength, scores = choose_strength([1.0], before, [harmful], kinds)
    assert strength == 0.0
    assert scores is before


def test_query_tower_leaves_document_vectors_untouched(task: Task, tmp_path: Path) -> None:
    settings, work = task.settings(recipe="query_tower", epochs=2.0), task.work(tmp_path)
    facts = train_embedder(task.tables, task.teacher, settings, work)
    assert facts["val_ndcg_at_10"] != facts["val_ndcg_at_10_base"]
    card = json.loads((work.model / "ragft_card.json").read_text(encoding="utf-8"))
    base = Encoder.base(settings.embedder, settings.compute)
    assert (card["document_tower"], card["base_digest"]) == ("base", base.weights.digest)
    tuned = Encoder.tuned(work.model, settings.embedder, settings.compute)
    val = task.tables.validation()
    pool = base.encode(list(val.nodes.values()), "document")
    served = val.ndcg(tuned.encode(val.questions.texts, "query"), pool)
    assert served.mean() == pytest.approx(facts["val_ndcg_at_10"], abs=0.1)


def test_low_rank_updates_are_merged_into_a_plain_model(task: Task, tmp_path: Path) -> None:
    tuned = task.fit(tmp_path, recipe="lora", rank=4)
    assert tuned.start.keys() == tuned.end.keys()
    changed = {name for name in tuned.end if not torch.equal(tuned.start[name], tuned.end[name])}
    assert changed
    assert all(name.endswith("dense.weight") or "attention.self" in name for name in changed)
    name = sorted(changed)[0]
    rank = torch.linalg.matrix_rank(tuned.end[name] - tuned.start[name], atol=1e-5)
    assert 0 < int(rank) <= 4


def test_refit_takes_the_strength_it_is_given(task: Task, tmp_path: Path) -> None:
    questions, folder = task.tables.questions(), tmp_path / "refit"
    facts = refit_embedder(
        questions, task.tables.nodes(), task.teacher, 0.5, task.settings(),
        task.work(tmp_path), folder,
    )  # fmt: skip
    assert facts["strength"] == 0.5
    encoder = Encoder.tuned(folder, task.settings().embedder, task.settings().compute)
    assert encoder.encode(questions.texts[:2], "query").shape == (2, 384)
