"""The sample's assets through Ray are those of one machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragft_pipeline import recipes
from ragft_pipeline.lineage.steps import Recipe, materialize
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.reranking import Reranker, cached_pair_scores, new_cross_encoder
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.retrieval.token_rows import cached_tokens
from ragft_pipeline.settings import ComputeSettings, RerankerSettings, Settings
from ragft_pipeline.store import Artifact, ArtifactStore, Workspace
from ragft_pipeline_tests.conftest import Project, copy_sample

STEPS: tuple[Recipe, ...] = (
    recipes.corpus_snapshot, recipes.chunked_nodes, recipes.train_nodes, recipes.val_nodes,
    recipes.gold_questions, recipes.corpus_statistics, recipes.node_embeddings,
    recipes.train_qa_pairs, recipes.val_qa_pairs, recipes.passage_context, recipes.teacher_scores,
    recipes.log_questions, recipes.log_scores,
)  # fmt: skip
KEYS = {"chunked_nodes": "node_id", "train_qa_pairs": "question_id"}
KEYS |= {"node_embeddings": "text_id", "teacher_scores": "question_id"}


@dataclass
class Ran:
    project: Project
    settings: Settings
    version: str
    made: dict[str, Artifact]


def run(
    folder: Path,
    compute: ComputeSettings,
    teacher: Path,
    progress: Callable[[str], None] = lambda line: None,
) -> Ran:
    project = Project(folder)
    copy_sample(project.corpus, 8)
    project.configure(
        questions={
            "generators": [
                {"kind": "extractive"},
                {"kind": "llm", "max_nodes": 3, "share_of_nodes": 1.0, "questions_per_node": 1},
            ],
        },
        teacher={"depth": 32, "reranked": 2, "model": str(teacher), "max_tokens": 64},
        compute=compute.model_dump(mode="json"),
    )
    version = project.snapshots.freeze(project.settings, progress).version
    made = {
        recipe.name: materialize(recipe, project.settings, version, progress).artifact
        for recipe in STEPS
    }
    return Ran(project, project.settings, version, made)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    folder = tmp_path_factory.mktemp("teacher") / "cross-encoder"
    torch.manual_seed(3)
    base = Encoder.base(Settings().embedder, ComputeSettings()).weights.folder
    new_cross_encoder(base, RerankerSettings(layers=3), "cpu", torch.float32).save_pretrained(
        str(folder)
    )
    return folder


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Ran:
    return run(tmp_path_factory.mktemp("local"), ComputeSettings(), teacher)


def test_assets_equal_the_local_ones_though_a_node_is_lost(
    tmp_path: Path, local: Ran, teacher: Path, on_ray: ComputeSettings, two_nodes: Any
) -> None:
    lost = []

    def lose_a_node(line: str) -> None:
        if line.startswith("vectors_document") and not lost:
            lost.append(two_nodes.worker_nodes.copy().pop())
            two_nodes.remove_node(lost[0], allow_graceful=False)

    ran = run(tmp_path / "ray", on_ray, teacher, lose_a_node)
    assert lost
    assert ran.version == local.version
    for asset, artifact in local.made.items():
        other = ran.made[asset]
        assert other.data_version == artifact.data_version, asset
        counted = {k: v for k, v in artifact.facts.items() if "seconds" not in k}
        assert {k: v for k, v in other.facts.items() if "seconds" not in k} == counted, asset
        if asset in KEYS:
            assert_same(other.table(), artifact.table(), KEYS[asset])


def assert_same(one: pa.Table, other: pa.Table, key: str) -> None:
    one, other = one.sort_by(key), other.sort_by(key)
    assert one.column(key).equals(other.column(key))
    for name in one.column_names:
        if name in ("vector", "scores"):
            for left, right in zip(one.column(name).to_pylist(), other.column(name).to_pylist()):
                np.testing.assert_allclose(left, right, atol=1e-5)
        else:
            assert one.column(name).equals(other.column(name)), name


def test_rows_that_exist_are_not_sent(tmp_path: Path, local: Ran, on_ray: ComputeSettings) -> None:
    step = local.settings.model_copy(update={"compute": on_ray})
    for recipe in STEPS:
        assert materialize(recipe, step, local.version).link.how == "reused", recipe.name


def test_tuned_models_and_token_vectors_travel(
    tmp_path: Path, local: Ran, teacher: Path, on_ray: ComputeSettings
) -> None:
    texts = local.made["chunked_nodes"].table().column("text").to_pylist()[:12]
    found = []
    for compute in (ComputeSettings(), on_ray):
        base = Encoder.base(local.settings.embedder, compute)
        tuned = Encoder.tuned(base.weights.folder, local.settings.embedder, compute)
        work = workspace(tmp_path / compute.runner, compute)
        scorer = Reranker(teacher, RerankerSettings(max_tokens=64), compute)
        pairs = [("Which valve is closed first?", text) for text in texts]
        stored = cached_tokens(work, tuned, texts, 8)
        _, vectors = cached_vectors(work, tuned, dict(zip("abcdef", texts)), "query")
        found.append((cached_pair_scores(work, "reranker", scorer, pairs), stored, vectors))
        held = {pq.read_metadata(file).num_rows for file in work.folder.glob("*.parquet")}
        assert held == {6, 12}
    (scores, stored, vectors), (other_scores, other_stored, other_vectors) = found
    np.testing.assert_allclose(scores, other_scores, atol=1e-5)
    np.testing.assert_allclose(vectors, other_vectors, atol=1e-5)
    assert stored.keys == other_stored.keys
    assert np.abs(stored.codes.astype(int) - other_stored.codes.astype(int)).max() <= 1


def workspace(folder: Path, compute: ComputeSettings) -> Workspace:
    from ragft_pipeline.compute import open_map

    store = ArtifactStore(folder)
    staged = folder / "staged"
    staged.mkdir(parents=True)
    return Workspace(store, "words", staged, map=open_map(compute))
