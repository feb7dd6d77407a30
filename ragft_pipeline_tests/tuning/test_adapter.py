"""Adapters: what each kind learns, keeps and loads as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from ragft_pipeline import schemas
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.retrieval.adapters import (
    Adapter,
    linear_adapter,
    load_adapter,
    two_layer_adapter,
)
from ragft_pipeline.retrieval.encoder import Encoder, normalise_rows
from ragft_pipeline.settings import AdapterSettings, EmbedderSettings, Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.tuning.adapter import fit_adapter
from ragft_pipeline.tuning.baking import bake_adapter
from ragft_pipeline.tuning.data import Questions
from ragft_pipeline.tuning.teacher import TeacherLists

BASE = resolve_weights("embedded:all-minilm-l6-v2").digest
NODES = {
    f"n{i}": text
    for i, text in enumerate(
        [
            "The strainer of the north pump is cleaned every second Monday.",
            "A brass plate on the manifold names the valve and its direction.",
            "Night watch begins at ten and is handed over in writing.",
            "Boiler water is tested for hardness before the heating season.",
        ]
    )
}
QUESTIONS = Questions(
    [f"q{i}" for i in range(4)],
    ["when is the strainer cleaned", "what does the plate say", "when does the watch begin",
     "why is the water tested"],
    list(NODES),
)  # fmt: skip


def _teacher(flip: bool = False) -> pa.Table:
    """A teacher that is sure of the source, or of the node after it."""
    ids = list(NODES)
    rows = []
    for i, question in enumerate(QUESTIONS.ids):
        best = (i + 1) % 4 if flip else i
        order = [best, *(n for n in range(4) if n != best)]
        scores = [1.0, 0.1, 0.1, 0.0]
        rows.append(
            {"question_id": question, "node_ids": [ids[n] for n in order], "scores": scores}
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schemas.TEACHER_SCORES.schema)


def _fit(tmp_path: Path, flip: bool = False, **changes: object) -> tuple[Adapter, list[float]]:
    recipe = AdapterSettings.model_validate({"epochs": 40, "learning_rate": 0.01, **changes})
    settings = Settings(adapter=recipe)
    work = Workspace(ArtifactStore(tmp_path), "embedding_adapter", tmp_path)
    encoder = Encoder.base(settings.embedder, settings.compute)
    return fit_adapter(QUESTIONS, NODES, _teacher(flip), encoder, settings, work)


def _vectors(seed: int = 0, rows: int = 6) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, 384)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["linear", "low_rank", "two_layer"])
@pytest.mark.parametrize("side", ["query", "both"])
def test_every_kind_learns_from_the_teacher_and_loads_again(
    tmp_path: Path, kind: str, side: str
) -> None:
    adapter, losses = _fit(tmp_path, kind=kind, side=side, rank=8, hidden=16)
    assert losses[-1] < 0.7 * losses[0]
    adapter.save(tmp_path / "model")
    loaded = load_adapter(tmp_path / "model", adapter.base_digest)
    vectors = _vectors()
    np.testing.assert_allclose(loaded.queries(vectors), adapter.queries(vectors), atol=1e-6)
    np.testing.assert_allclose(loaded.documents(vectors), adapter.documents(vectors), atol=1e-6)
    moved = not np.allclose(adapter.documents(vectors), vectors, atol=1e-4)
    assert moved == (side == "both")


def test_same_seed_gives_the_same_adapter(tmp_path: Path) -> None:
    first, second = _fit(tmp_path)[0], _fit(tmp_path)[0]
    np.testing.assert_array_equal(first.queries(_vectors()), second.queries(_vectors()))


def test_strength_zero_is_the_identity_and_one_changes_nothing() -> None:
    torch.manual_seed(0)
    linear = linear_adapter(torch.eye(384) + 0.05 * torch.randn(384, 384))
    deep = two_layer_adapter(384, 16)
    deep.residual_weight.data.fill_(0.7)
    vectors = _vectors()
    for adapter in (Adapter(BASE, linear), Adapter(BASE, deep, linear)):
        still, same = adapter.shrunk(0.0), adapter.shrunk(1.0)
        np.testing.assert_allclose(still.queries(vectors), vectors, atol=1e-5)
        np.testing.assert_allclose(still.documents(vectors), vectors, atol=1e-5)
        np.testing.assert_allclose(same.queries(vectors), adapter.queries(vectors), atol=1e-6)


def test_steps_of_a_large_corpus_see_sources_best_and_a_random_rest() -> None:
    many = [*NODES, *(f"other{i}" for i in range(500))]
    teacher = TeacherLists(_teacher(flip=True), QUESTIONS, many)
    columns = teacher.columns(np.arange(4), 64, np.random.default_rng(0))
    assert set(range(4)) <= set(columns.tolist())
    assert len(columns) <= 64
    target, own = teacher.dense(np.arange(4), columns)
    assert target.shape == (4, len(columns))
    assert [many[columns[place]] for place in own] == QUESTIONS.node_ids
    best = [many[columns[place]] for place in target.argmax(axis=1)]
    assert best == [f"n{(i + 1) % 4}" for i in range(4)]


def test_baked_model_gives_the_adapters_vectors_in_both_libraries(tmp_path: Path) -> None:
    from llama_index.embeddings.adapter import AdapterEmbeddingModel
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(0)
    adapter = Adapter(
        BASE,
        linear_adapter(torch.eye(384) + 0.02 * torch.randn(384, 384)),
        linear_adapter(torch.eye(384) + 0.02 * torch.randn(384, 384)),
    )
    embedder = EmbedderSettings()
    bake_adapter(adapter, embedder, tmp_path / "baked")
    texts = list(NODES.values())
    plain = SentenceTransformer(str(resolve_weights(embedder.model).folder), device="cpu")
    base = plain.encode(texts, normalize_embeddings=True)
    baked = SentenceTransformer(str(tmp_path / "baked"), device="cpu")
    np.testing.assert_allclose(baked.encode_query(texts), adapter.queries(base), atol=1e-4)
    np.testing.assert_allclose(baked.encode_document(texts), adapter.documents(base), atol=1e-4)
    documents = HuggingFaceEmbedding(model_name=str(tmp_path / "baked"), device="cpu")
    query = AdapterEmbeddingModel(
        documents, str(tmp_path / "baked" / "query_adapter"), device="cpu"
    )
    asked = np.array(query.get_query_embedding(texts[0]))
    np.testing.assert_allclose(
        asked / np.linalg.norm(asked), adapter.queries(base[:1])[0], atol=1e-4
    )
    np.testing.assert_allclose(
        documents.get_text_embedding(texts[0]), adapter.documents(base[:1])[0], atol=1e-4
    )


def test_only_linear_adapters_over_this_base_are_baked(tmp_path: Path) -> None:
    deep = Adapter(BASE, two_layer_adapter(384, 16))
    with pytest.raises(RagftError, match="only a linear adapter"):
        bake_adapter(deep, EmbedderSettings(), tmp_path)
    other = Adapter("0" * 64, linear_adapter(torch.eye(384)))
    with pytest.raises(RagftError, match="does not belong"):
        bake_adapter(other, EmbedderSettings(), tmp_path)


def test_questions_without_a_source_learn_from_the_teacher_alone(tmp_path: Path) -> None:
    recipe = AdapterSettings.model_validate(
        {"epochs": 40, "learning_rate": 0.01, "source_weight": 5.0}
    )
    settings = Settings(adapter=recipe)
    work = Workspace(ArtifactStore(tmp_path), "embedding_adapter", tmp_path)
    encoder = Encoder.base(settings.embedder, settings.compute)
    unlabelled = Questions(QUESTIONS.ids, QUESTIONS.texts, [""] * 4)
    adapter, losses = fit_adapter(unlabelled, NODES, _teacher(flip=True), encoder, settings, work)
    assert losses[-1] < 0.7 * losses[0]
    queries, nodes = (
        encoder.encode(texts, "query") for texts in (QUESTIONS.texts, [*NODES.values()])
    )
    best = (adapter.queries(queries) @ adapter.documents(nodes).T).argmax(axis=1)
    assert best.tolist() == [1, 2, 3, 0]  # as the teacher says
    mixed = QUESTIONS + Questions(["x"], ["where is the plate"], [""])
    assert mixed.answers() == [["n0"], ["n1"], ["n2"], ["n3"], []]
    lists = TeacherLists(_teacher(), unlabelled, list(NODES))
    assert lists.dense(np.array([0, 1]), np.arange(4))[1].tolist() == [-1, -1]


def test_a_doubled_adapter_maps_a_vector_alike_whatever_others_are_mapped() -> None:
    weight = torch.eye(24) + 0.1 * torch.randn(24, 24, generator=torch.Generator().manual_seed(1))
    adapter = Adapter("base", linear_adapter(weight), linear_adapter(weight.T)).doubled()
    vectors = normalise_rows(np.random.default_rng(2).normal(size=(500, 24)))
    whole = adapter.documents(vectors)
    assert whole.dtype == np.float32
    assert (adapter.documents(vectors[40:43]) == whole[40:43]).all()
    assert (adapter.queries(vectors[:1]) == adapter.queries(vectors)[:1]).all()
