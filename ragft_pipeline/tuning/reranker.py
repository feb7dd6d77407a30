"""The reranker: a cross-encoder over the hybrid's candidates, stopped early on ranking quality.

Training lists are the source, hard negatives from the teacher's ranking (skipping what scores as
well as the source: likely false negatives) and random nodes; binary cross-entropy. It starts from
any cross-encoder; with the embedded default from MiniLM's first layers and a new head.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors, pick_device, pick_dtype
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.reranking import load_cross_encoder
from ragft_pipeline.retrieval.search import fuse, top_k
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.data import Questions, TrainingTables, Validation
from ragft_pipeline.tuning.teacher import mixed_scores
from ragft_pipeline.tuning.training import report_to, switch_off_dropout
from ragft_pipeline.weights import require_embedder, resolve_weights

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_HARD_POOL = 30
_FALSE_NEGATIVE = 0.95
_VAL_DEPTH = 20
_METRIC = "val_ndcg@10"
_LOADING = """
from sentence_transformers import CrossEncoder
model = CrossEncoder(THIS_FOLDER)
# or in LlamaIndex
from llama_index.postprocessor.sbert_rerank import SentenceTransformerRerank
reranker = SentenceTransformerRerank(
    model=THIS_FOLDER, top_n=10, cross_encoder_kwargs={{"max_length": {max_length}}}
)
"""


def train_reranker(
    tables: TrainingTables,
    teacher: pa.Table,
    statistics: TermStatistics,
    settings: Settings,
    work: Workspace,
) -> dict[str, Any]:
    """Train the cross-encoder and save it into the workspace's model folder (safetensors).

    Returns facts: pairs, loss, and nDCG@10 of val candidates before and after reranking.
    """
    import torch

    recipe = settings.reranker
    questions = tables.questions(recipe.max_questions)
    rows = training_rows(questions, tables.nodes(), teacher, settings)
    val = tables.validation(recipe.val_questions)
    samples, first_stage = _val_candidates(val, statistics, settings, work)

    weights = require_embedder(resolve_weights(recipe.model))
    torch.manual_seed(recipe.seed)
    model = load_cross_encoder(weights.folder, recipe, pick_device(settings.compute), torch.float32)
    keep_layers(model, recipe.layers)
    loss = _fit(model, rows, samples, settings, work)
    model.save_pretrained(str(work.model), create_model_card=False, safe_serialization=True)
    facts = {
        "questions": len(questions),
        "pairs": len(rows["label"]),
        **loss,
        "val_ndcg_at_10_first_stage": first_stage,
    }
    write_card(
        work.model,
        f"Reranker from {recipe.model}",
        "A cross-encoder tuned to rerank a hybrid's candidates on one corpus version.",
        {"base_digest": weights.digest, **facts, **recipe.model_dump(mode="json")},
        _LOADING.format(max_length=recipe.max_tokens),
    )
    return facts


def training_rows(
    questions: Questions, nodes: dict[str, str], teacher: pa.Table, settings: Settings
) -> dict[str, list[Any]]:
    """Return columns query, passage and label: per question its source and mixed negatives."""
    recipe = settings.reranker
    random = np.random.default_rng(recipe.seed)
    by_id = {row["question_id"]: row for row in teacher.to_pylist()}
    every = list(nodes)
    rows: dict[str, list[Any]] = {"query": [], "passage": [], "label": []}
    for question_id, text, source in zip(questions.ids, questions.texts, questions.node_ids):
        row = by_id[question_id]
        scores = dict(zip(row["node_ids"], mixed_scores(row, settings.teacher.bm25_weight)))
        limit = _FALSE_NEGATIVE * scores.get(source, 1.0)
        pool = [n for n in row["node_ids"] if n != source and scores[n] < limit][:_HARD_POOL]
        hard = random.permutation(len(pool))[: recipe.hard_negatives]
        negatives = [pool[i] for i in hard]
        negatives += [every[i] for i in random.integers(len(every), size=recipe.random_negatives)]
        for node_id, label in [(source, 1.0), *((n, 0.0) for n in negatives if n != source)]:
            rows["query"].append(text)
            rows["passage"].append(nodes[node_id])
            rows["label"].append(label)
    return rows


def keep_layers(model: CrossEncoder, layers: int) -> None:
    """Keep the first `layers` transformer layers of a cross-encoder; 0 keeps all.

    Rerankers are priced by the layer, and a new head has the same to learn on top of fewer.
    """
    import torch

    backbone = model.transformers_model
    total = int(backbone.config.num_hidden_layers)
    if not 0 < layers < total:
        return
    for module in backbone.modules():
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ModuleList) and len(child) == total:
                setattr(module, name, child[:layers])
                backbone.config.num_hidden_layers = layers
                return


def _val_candidates(
    val: Validation, statistics: TermStatistics, settings: Settings, work: Workspace
) -> tuple[list[dict[str, Any]], float]:
    """Return the val questions' candidates from the untuned hybrid, and its nDCG@10."""
    if not len(val.questions):
        return [], 0.0
    encoder = Encoder.base(settings.embedder, settings.compute)
    node_ids, nodes = cached_vectors(work, encoder, val.nodes, "document")
    _, queries = cached_vectors(work, encoder, val.questions.by_id(), "query")
    lexical = LexicalIndex(list(val.nodes.values()), statistics)
    scores = fuse(
        queries @ nodes.T, lexical.scores(val.questions.texts), 1 - settings.teacher.bm25_weight
    )
    samples = [
        {
            "query": text,
            "positive": [val.nodes[source]],
            "documents": [val.nodes[node_ids[i]] for i in row],
        }
        for text, source, row in zip(
            val.questions.texts, val.questions.node_ids, top_k(scores, _VAL_DEPTH)
        )
    ]
    return samples, float(val.ndcg_of_scores(scores).mean())


def _fit(
    model: CrossEncoder,
    rows: dict[str, list[Any]],
    samples: list[dict[str, Any]],
    settings: Settings,
    work: Workspace,
) -> dict[str, float]:
    import torch
    from datasets import Dataset
    from sentence_transformers.cross_encoder import (
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
    )
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
    from transformers import EarlyStoppingCallback

    recipe = settings.reranker
    switch_off_dropout(model)
    device = pick_device(settings.compute)
    steps = max(1, int(-(-len(rows["label"]) // recipe.batch_size) * recipe.epochs))
    folder = work.folder / "trainer"
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=0.01,
        warmup_steps=recipe.warmup,
        bf16=pick_dtype(settings.compute) == torch.bfloat16,
        use_cpu=device == "cpu",
        dataloader_pin_memory=False,
        seed=recipe.seed,
        data_seed=recipe.seed,
        eval_strategy="steps" if samples else "no",
        eval_steps=max(1, steps // recipe.evaluations),
        save_strategy="steps" if samples else "no",
        save_steps=max(1, steps // recipe.evaluations),
        save_total_limit=1,
        load_best_model_at_end=bool(samples),
        metric_for_best_model=f"eval_{_METRIC}",
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
    )
    evaluator = CrossEncoderRerankingEvaluator(
        samples=samples, at_k=10, name="val", always_rerank_positives=False, write_csv=False,
        batch_size=settings.compute.batch_size,
    ) if samples else None  # fmt: skip
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(rows),
        loss=BinaryCrossEntropyLoss(
            model, pos_weight=torch.tensor(float(recipe.hard_negatives + recipe.random_negatives))
        ),
        evaluator=evaluator,
        callbacks=[EarlyStoppingCallback(recipe.patience)] if samples else [],
    )
    report_to(trainer, "reranker", work.progress)
    result = trainer.train()
    shutil.rmtree(folder, ignore_errors=True)
    facts = {"loss": float(result.training_loss), "steps": float(trainer.state.global_step)}
    if trainer.state.best_metric is not None:
        facts["val_ndcg_at_10"] = float(trainer.state.best_metric)
    return facts
