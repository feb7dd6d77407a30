"""Tuned models load in sentence-transformers and LlamaIndex and give the report's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ragft_pipeline.corpus.nodes import node_texts, with_context
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.questions.drafts import SourceNode
from ragft_pipeline.questions.embedded import EmbeddedModel
from ragft_pipeline.questions.llm import build_prompt, parse_questions
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.metrics import score_rankings
from ragft_pipeline.retrieval.reranking import Reranker
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.settings import ComputeSettings, LLMGenerator
from ragft_pipeline_tests.conftest import Project

TEXTS = ["The duty engineer may start CHP-1.", "A strainer is cleaned every spring.", "Ammonia!"]


def _report_rows(project: Project, system: str) -> list[dict]:  # type: ignore[type-arg]
    rows = project.artifact("retrieval_eval").table().to_pylist()
    return [r for r in rows if r["system"] == system and r["question_set"] == "tomorrow"]


def _ndcg(project: Project, system: str, queries: np.ndarray, nodes: np.ndarray) -> float:
    """Return nDCG@10 of vectors on the questions that the report lists for a system."""
    rows = _report_rows(project, system)
    ids = sorted(set(project.artifact("chunked_nodes").table().column("node_id").to_pylist()))
    column = {node_id: index for index, node_id in enumerate(ids)}
    relevant = [{column[n] for n in row["relevant"]} for row in rows]
    rankings = top_k(queries @ nodes.T, 100)
    return float(score_rankings(rankings, relevant)["ndcg_at_10"].mean())


def _unit(vectors: list[list[float]]) -> np.ndarray:
    array = np.array(vectors, dtype=np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def _node_texts(project: Project, alone: bool = False) -> list[str]:
    """Return the passages alone, or as models read them, in the order of their ids."""
    table = project.artifact("chunked_nodes").table()
    if not alone and project.artifact("passage_context").facts["context"] == "on":
        table = with_context(table)
    return list(node_texts(table).values())


def test_tuned_embedder_gives_the_reports_numbers_in_llamaindex(finished: Project) -> None:
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    rows = _report_rows(finished, "tuned_embedder")
    model = HuggingFaceEmbedding(
        model_name=str(finished.artifact("tuned_embedder").model), device="cpu"
    )
    nodes = _unit(model.get_text_embedding_batch(_node_texts(finished)))
    queries = _unit([model.get_query_embedding(row["question"]) for row in rows])
    reported = float(np.mean([row["ndcg_at_10"] for row in rows]))
    assert _ndcg(finished, "tuned_embedder", queries, nodes) == pytest.approx(reported, abs=0.02)


def test_tuned_embedder_loads_in_sentence_transformers(finished: Project) -> None:
    from sentence_transformers import SentenceTransformer

    folder = finished.artifact("tuned_embedder").model
    plain = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    own = Encoder.tuned(folder, finished.settings.embedder, ComputeSettings(dtype="float32"))
    np.testing.assert_allclose(plain, own.encode(TEXTS, "document"), atol=1e-4)
    assert (folder / "model.safetensors").is_file()
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize(
    "asset",
    ["embedding_adapter", "stacked_adapter", "tuned_embedder", "reranker", "late_interaction",
     "query_router"],
)  # fmt: skip
def test_the_lines_on_a_card_load_the_model(
    finished: Project, asset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)  # where a person has the ragft.yaml
    folder = finished.artifact(asset).model
    lines = (folder / "README.md").read_text(encoding="utf-8")
    facts = json.loads((folder / "ragft_card.json").read_text(encoding="utf-8"))
    given = {
        "THIS_FOLDER": str(folder),
        "BASE_MODEL": str(resolve_weights(finished.settings.embedder.model).folder),
        "BASE_DIGEST": facts.get("base_digest"),
        "vectors": np.eye(2, 384, dtype=np.float32),
        "question": TEXTS[0],
        "passage": TEXTS[1],
    }
    exec(lines.split("```python")[1].split("```")[0], given)


def test_adapter_gives_the_reports_numbers_in_llamaindex(finished: Project) -> None:
    from llama_index.embeddings.adapter import AdapterEmbeddingModel
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    rows = _report_rows(finished, "adapter")
    weights = resolve_weights(finished.settings.embedder.model)
    base = HuggingFaceEmbedding(model_name=str(weights.folder), device="cpu")
    folder = finished.artifact("embedding_adapter").model
    model = AdapterEmbeddingModel(base, str(folder), device="cpu")
    stored = _unit(base.get_text_embedding_batch(_node_texts(finished, alone=True)))
    nodes = load_adapter(folder, weights.digest).documents(stored)
    queries = _unit([model.get_query_embedding(row["question"]) for row in rows])
    reported = float(np.mean([row["ndcg_at_10"] for row in rows]))
    assert _ndcg(finished, "adapter", queries, nodes) == pytest.approx(reported, abs=0.02)


def test_every_adapter_checkpoint_loads(finished: Project) -> None:
    from llama_index.embeddings.adapter.utils import LinearLayer

    checkpoints = sorted((finished.artifact("embedding_adapter").model / "checkpoints").iterdir())
    assert len(checkpoints) == 2
    for folder in checkpoints:
        assert LinearLayer.load(str(folder)).linear.weight.shape == (384, 384)


def test_adapter_refuses_another_base(finished: Project) -> None:
    with pytest.raises(RagftError, match="train it again over this base"):
        load_adapter(finished.artifact("embedding_adapter").model, "0" * 64)


def test_reranker_gives_the_same_order_in_llamaindex(finished: Project) -> None:
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
    from llama_index.postprocessor.sbert_rerank import SentenceTransformerRerank

    folder, settings = finished.artifact("reranker").model, finished.settings
    texts = _node_texts(finished)[:20]
    question = "who may start the engine after a trip"
    own = Reranker(folder, settings.reranker, ComputeSettings(dtype="float32")).score(
        [(question, text) for text in texts]
    )
    theirs = SentenceTransformerRerank(
        model=str(folder), top_n=20, device="cpu",
        cross_encoder_kwargs={"max_length": settings.reranker.max_tokens},
    ).postprocess_nodes(
        [NodeWithScore(node=TextNode(text=text, id_=str(i))) for i, text in enumerate(texts)],
        QueryBundle(question),
    )  # fmt: skip
    scores = {int(node.node.node_id): node.score for node in theirs}
    order = np.array([scores[i] for i in range(20)])
    assert np.corrcoef(order, own)[0, 1] > 0.99


def test_reranker_kept_the_layers_asked_for(finished: Project) -> None:
    config = json.loads((finished.artifact("reranker").model / "config.json").read_text())
    assert config["num_hidden_layers"] == 1  # of two


def test_qa_pairs_export_is_llamaindexs_json(finished: Project, tmp_path: Path) -> None:
    target = tmp_path / "train.json"
    assert finished.ragft("export-qa", "train", str(target)).returncode == 0
    data = json.loads(target.read_text(encoding="utf-8"))
    assert set(data) == {"queries", "corpus", "relevant_docs", "mode"}
    assert all(data["relevant_docs"][q][0] in data["corpus"] for q in data["queries"])


def test_embedded_model_writes_questions(finished: Project) -> None:
    text = _node_texts(finished)[0]
    node = SourceNode("0" * 32, text, "", "", True)
    weights = resolve_weights("embedded:smollm2-135m-instruct")
    model = EmbeddedModel(weights, LLMGenerator(kind="llm"), ComputeSettings())
    first, second, other = model.ask([build_prompt(node, 2)] * 3, [1, 1, 2])
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.text == second.text
    assert first.text[:6] != other.text[:6]
    assert first.prompt_tokens > 20
    assert isinstance(parse_questions(first.text, 2), list)


def test_same_encoding_whatever_the_company(finished: Project) -> None:
    encoder = Encoder.base(finished.settings.embedder, ComputeSettings(dtype="float32"))
    together = encoder.encode([*TEXTS, "a much longer text " * 40], "document")[:3]
    alone = np.concatenate([encoder.encode([text], "document") for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
