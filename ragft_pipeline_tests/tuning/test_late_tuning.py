"""Tuned late interaction: a small real corpus, the real teacher and the embedded model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.late_interaction import LateInteraction, QuestionTuning
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.settings import LateInteractionSettings, Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.tuning.data import TrainingTables
from ragft_pipeline.tuning.late_interaction import (
    shrink,
    token_frequency,
    tune_late_interaction,
)
from ragft_pipeline.tuning.teacher import score_with_teacher

BLANKS = {pa.string(): "", pa.list_(pa.string()): []}

PARTS = {"train": ("pump", "valve", "boiler", "meter"), "val": ("relay", "tank")}
DUTIES = ("is cleaned each spring by the duty engineer", "must be sealed before it is filled")


def _tables(split: str) -> tuple[pa.Table, pa.Table]:
    nodes, pairs = [], []
    for part in PARTS[split]:
        for number, duty in enumerate(DUTIES):
            node_id = f"{split}-{part}-{number}"
            nodes.append({"node_id": node_id, "text": f"The {part} {duty}, in the north works."})
            question = {"question_id": node_id, "question": f"{part} {duty.split()[1]} when"}
            pairs.append({**question, "kind": "claim", "node_id": node_id})
    return _filled(pairs, schemas.QA_PAIRS.schema), _filled(nodes, schemas.NODES.schema)


def _filled(rows: list[dict[str, str]], schema: pa.Schema) -> pa.Table:
    blank = {field.name: BLANKS.get(field.type, 0) for field in schema}
    return pa.Table.from_pylist([{**blank, **row} for row in rows], schema=schema)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    (tmp_path / "asset").mkdir()
    return Workspace(ArtifactStore(tmp_path / "store"), "late_interaction", tmp_path / "asset")


def _tune(work: Workspace, recipe: LateInteractionSettings) -> tuple[dict, TrainingTables]:  # type: ignore[type-arg]
    settings = Settings(store=str(work.store.root), late_interaction=recipe)
    (train_pairs, train_nodes), (val_pairs, val_nodes) = _tables("train"), _tables("val")
    tables = TrainingTables(train_pairs, val_pairs, train_nodes, val_nodes)
    statistics = TermStatistics.of(list(node_texts(train_nodes).values()))
    teacher = score_with_teacher(train_pairs, train_nodes, statistics, 0.5, settings, work)
    return tune_late_interaction(tables, teacher, statistics, settings, work), tables


@pytest.mark.parametrize("recipe", ["idf", "map", "none"])
def test_what_val_chose_is_what_the_folder_scores_with(work: Workspace, recipe: str) -> None:
    facts, tables = _tune(work, LateInteractionSettings(recipe=recipe, epochs=2))
    settings = Settings()
    late = LateInteraction.load(work.model, settings.embedder, settings.compute)
    plain = LateInteraction(Encoder.base(settings.embedder, settings.compute))
    assert facts["strength"] in (0.0, 0.5, 1.0)
    assert (late.identity == plain.identity) == (facts["strength"] == 0)
    assert facts["bytes_a_passage"] > 0
    assert (work.model / "README.md").is_file()
    assert np.isfinite(late.score([("pump", text) for text in tables.nodes().values()])).all()


def test_training_lowers_the_loss_of_the_map(work: Workspace) -> None:
    lines: list[str] = []
    work.progress = lines.append
    _tune(work, LateInteractionSettings(recipe="map", epochs=4, learning_rate=0.01))
    losses = [float(line.rsplit(" ", 1)[1]) for line in lines if "loss" in line]
    assert losses[-1] < losses[0]


def test_rare_tokens_weigh_more_than_common_ones() -> None:
    encoder = Encoder.base(Settings().embedder, Settings().compute)
    frequency = token_frequency(encoder, ["the pump", "the valve", "the relay"])
    the, pump, never = encoder.model.tokenizer.convert_tokens_to_ids(["the", "pump", "zebra"])
    assert 0 < frequency[the] < frequency[pump] < frequency[never]


def test_strength_goes_from_nothing_to_the_whole() -> None:
    matrix = np.array([[1.0, 0.4], [0.0, 2.0]], np.float32)
    whole = QuestionTuning("d", np.array([4.0, 9.0], np.float32), matrix)
    assert shrink(whole, 0.0) is None
    half, full = shrink(whole, 0.5), shrink(whole, 1.0)
    assert half is not None
    assert full is not None
    np.testing.assert_allclose(half.weights, [2, 3])
    np.testing.assert_allclose(half.map, [[1, 0.2], [0, 1.5]])
    np.testing.assert_allclose(full.map, matrix)
