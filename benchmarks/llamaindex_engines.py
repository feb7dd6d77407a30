"""LlamaIndex's engines and evaluator, timed: runs in an environment of its own.

    .venv-llamaindex/bin/python benchmarks/llamaindex_engines.py {embedder|adapter|evaluate} JOB

JOB is a JSON file that `benchmarks.llamaindex` writes; what comes out is written beside it. Every
engine runs with its own defaults, on the data and the base model that the job names.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEED = 13
METRICS = ("hit_rate", "mrr")


def embedder(job: dict[str, Any]) -> dict[str, Any]:
    """Tune the embedder; seconds of `finetune()`, the model being loaded before."""
    from llama_index.finetuning import SentenceTransformersFinetuneEngine

    engine = SentenceTransformersFinetuneEngine(
        _dataset(job),
        model_id=job["model"],
        model_output_path=job["out"],
        evaluation_steps=0,  # its default of 50 fails without a val set; this saves it time, too
    )
    return _timed(engine.finetune)


def adapter(job: dict[str, Any]) -> dict[str, Any]:
    """Train the linear query adapter; seconds of `finetune()`, which embeds as it goes."""
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.finetuning import EmbeddingAdapterFinetuneEngine

    engine = EmbeddingAdapterFinetuneEngine(
        _dataset(job), HuggingFaceEmbedding(model_name=job["model"]), model_output_path=job["out"]
    )
    return _timed(engine.finetune)


def evaluate(job: dict[str, Any]) -> dict[str, Any]:
    """Evaluate three retrievers with RetrieverEvaluator, in seconds after loading.

    `whole` embeds each question and searches a VectorStoreIndex of the given node vectors;
    `search` is told the questions' vectors; `score` is told the rankings, so only metrics are left.
    """
    import numpy as np
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.evaluation import RetrieverEvaluator
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    questions, depth = job["questions"], job["depth"]
    node_vectors = np.load(job["node_vectors"])
    known = dict(zip(questions, np.load(job["question_vectors"]).tolist()))
    nodes = [
        TextNode(id_=node_id, text=text, embedding=vector.tolist())
        for node_id, text, vector in zip(job["node_ids"], job["node_texts"], node_vectors)
    ]
    ranked = {
        question: [NodeWithScore(node=nodes[i], score=0.0) for i in row[:depth]]
        for question, row in zip(questions, job["rankings"])
    }

    class Known(BaseEmbedding):
        def _get_text_embedding(self, text: str) -> list[float]:
            return known[text]

        def _get_query_embedding(self, query: str) -> list[float]:
            return known[query]

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return known[query]

    class Ranked(BaseRetriever):
        def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
            return ranked[query_bundle.query_str]

    def search_with(embed_model: BaseEmbedding) -> BaseRetriever:
        index = VectorStoreIndex(nodes, embed_model=embed_model)
        return index.as_retriever(similarity_top_k=depth)

    base = HuggingFaceEmbedding(model_name=job["model"])
    base.get_query_embedding("loading is not timed")
    retrievers = {"whole": search_with(base), "search": search_with(Known()), "score": Ranked()}

    async def run(retriever: BaseRetriever) -> list[dict[str, float]]:
        evaluator = RetrieverEvaluator.from_metric_names(list(METRICS), retriever=retriever)
        return [
            (await evaluator.aevaluate(question, expected)).metric_vals_dict
            for question, expected in zip(questions, job["relevant"])
        ]

    found = {}
    for name, retriever in retrievers.items():
        start = time.perf_counter()
        values = asyncio.run(run(retriever))
        found[name] = {
            "seconds": time.perf_counter() - start,
            **{metric: [value[metric] for value in values] for metric in METRICS},
        }
    return found


def _dataset(job: dict[str, Any]) -> Any:
    import torch
    from llama_index.finetuning import EmbeddingQAFinetuneDataset

    torch.manual_seed(SEED)
    return EmbeddingQAFinetuneDataset.from_json(job["dataset"])


def _timed(run: Callable[[], None]) -> dict[str, Any]:
    start = time.perf_counter()
    run()
    return {"seconds": time.perf_counter() - start}


def main() -> None:
    task, job_file = sys.argv[1], Path(sys.argv[2])
    job = json.loads(job_file.read_text(encoding="utf-8"))
    result = {"embedder": embedder, "adapter": adapter, "evaluate": evaluate}[task](job)
    job_file.with_suffix(".result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
