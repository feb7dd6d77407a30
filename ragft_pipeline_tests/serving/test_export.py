"""An export loads without us and gives the served numbers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.adapters import Adapter
from ragft_pipeline.retrieval.text_vectors import vectors_matrix
from ragft_pipeline.serving import export
from ragft_pipeline.serving.export import export_bundle
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import ComputeSettings, Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.tuning.baking import bake_adapter
from ragft_pipeline_tests.serving.conftest import ADAPTED, PUMP, make_bundle, noisy_adapter

QUESTION = "when is the strainer cleaned?"


def test_an_exported_index_and_model_score_as_the_served_ones(tmp_path: Path) -> None:
    bundle = make_bundle(ArtifactStore(tmp_path), "pump", PUMP, ADAPTED, noisy_adapter(tmp_path))
    target = tmp_path / "export"
    assert export_bundle(bundle, target, ComputeSettings()) > 8

    lines = (target / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    for digest, name in (line.split("  ") for line in lines):
        assert hashlib.sha256((target / name).read_bytes()).hexdigest() == digest
    vectors = pq.read_table(target / "index/vectors.parquet")
    model = SentenceTransformer(str(target / "models/embedder_with_adapter"), device="cpu")
    scores = vectors_matrix(vectors) @ model.encode_query(QUESTION)
    found = dict(zip(vectors.column("node_id").to_pylist(), scores))
    for hit in Searcher(bundle).search(QUESTION):
        assert found[hit.node_id] == pytest.approx(hit.parts["dense"], abs=1e-4)
    with pytest.raises(RagftError, match="is not empty"):
        export_bundle(bundle, target, ComputeSettings())


def test_an_exported_embedder_has_the_served_prompts_and_length(tmp_path: Path) -> None:
    embedder = {"query_prompt": "question: ", "document_prompt": "passage: ", "max_tokens": 16}
    settings = Settings.model_validate({"embedder": embedder})
    texts = [" ".join(PUMP), *PUMP]
    bundle = make_bundle(ArtifactStore(tmp_path), "pump", texts, settings=settings)
    export_bundle(bundle, tmp_path / "export", ComputeSettings())
    model = SentenceTransformer(str(tmp_path / "export/models/embedder"), device="cpu")
    served = Searcher(bundle)
    for found, expected in (
        (model.encode_query([QUESTION]), served.query_vectors([QUESTION])),
        (model.encode_document(texts), served.document_vectors(texts)),
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_export_is_checked_by_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(ArtifactStore(tmp_path), "pump", PUMP, ADAPTED, noisy_adapter(tmp_path))

    def bake_another(adapter: Adapter, *given: Any, **named: Any) -> None:
        bake_adapter(Adapter(adapter.base_digest, adapter.document, adapter.query), *given, **named)

    monkeypatch.setattr(export, "bake_adapter", bake_another)
    with pytest.raises(RagftError, match="does not give the served query vectors once exported"):
        export_bundle(bundle, tmp_path / "export", ComputeSettings())


def test_an_exported_bundle_must_be_whole(tmp_path: Path) -> None:
    bundle = make_bundle(ArtifactStore(tmp_path), "pump", PUMP)
    next((bundle.folder / "nodes.parquet").iterdir()).write_bytes(b"")
    with pytest.raises(RagftError, match="was changed"):
        export_bundle(bundle, tmp_path / "export", ComputeSettings())


def test_onnx_graphs_agree_with_the_model(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    bundle = make_bundle(ArtifactStore(tmp_path), "pump", PUMP)
    export_bundle(bundle, tmp_path / "export", ComputeSettings(), onnx=True)
    text = (tmp_path / "export/README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if ".onnx |" in line]
    agreement = {row[0].strip("| "): float(row[1]) for row in rows}
    assert agreement["model.onnx"] > 0.9999
    assert agreement["model_int8.onnx"] > 0.95
