"""Tuned late interaction: a small real corpus, the real teacher and the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.late_interaction import LateInteraction
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.retrieval.question_tuning import QuestionTuning
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.tuning.data import TrainingTables
from ragft_pipeline.tuning.late_interaction import (
    shrink,
    token_counts,
    token_frequency,
    tune_late_interaction,
)

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


def _tune(work: Workspace) -> tuple[dict[str, Any], TrainingTables]:
    settings = Settings(store=str(work.store.root))
    (train_pairs, train_nodes), (val_pairs, val_nodes) = _tables("train"), _tables("val")
    tables = TrainingTables(train_pairs, val_pairs, train_nodes, val_nodes)
    statistics = TermStatistics.of(list(node_texts(train_nodes).values()))
    return tune_late_interaction(tables, statistics, settings, work), tables


def test_what_val_chose_is_what_the_folder_scores_with(work: Workspace) -> None:
    facts, tables = _tune(work)
    settings = Settings()
    late = LateInteraction.load(work.model, settings.embedder, settings.compute)
    plain = LateInteraction(Encoder.base(settings.embedder, settings.compute))
    assert facts["strength"] in (0.0, 0.5, 1.0)
    assert (late.identity == plain.identity) == (facts["strength"] == 0)
    assert facts["bytes_a_passage"] > 0
    assert (work.model / "README.md").is_file()
    assert np.isfinite(late.score([("pump", text) for text in tables.nodes().values()])).all()


def test_rare_tokens_weigh_more_than_common_ones() -> None:
    encoder = Encoder.base(Settings().embedder, Settings().compute)
    counts = token_counts(encoder, ["the pump", "the valve", "the relay"])
    frequency = token_frequency(counts, 3)
    the, pump, never = encoder.model.tokenizer.convert_tokens_to_ids(["the", "pump", "zebra"])
    assert 0 < frequency[the] < frequency[pump] < frequency[never]


def test_strength_goes_from_nothing_to_the_whole() -> None:
    whole = QuestionTuning("d", np.array([4.0, 9.0], np.float32))
    assert shrink(whole, 0.0) is None
    half, full = shrink(whole, 0.5), shrink(whole, 1.0)
    assert half is not None
    assert full is not None
    np.testing.assert_allclose(half.weights, [2, 3])
    np.testing.assert_allclose(full.weights, [4, 9])


def test_tokens_are_counted_without_loading_a_model() -> None:
    encoder = Encoder.base(Settings().embedder, Settings().compute)
    texts = ["the pump", "", "Überdruck 锅炉检修", "a valve " * 400]
    tokenizer = encoder.model.tokenizer
    theirs = tokenizer(texts, truncation=True, add_special_tokens=False)["input_ids"]
    assert encoder.token_ids(texts) == theirs
    assert encoder.vocabulary == len(tokenizer)
