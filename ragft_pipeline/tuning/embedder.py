"""The tuned embedder: contrastive tuning of both towers, then interpolation with the base.

Loss: multiple negatives ranking (Henderson et al. 2017) over batches without duplicates. Plain
contrastive tuning on synthetic questions can cost generality, so the result is averaged with the
base weights (WiSE-FT, Wortsman et al. 2022) by the smallest strength that val cannot tell from
the best.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ragft_pipeline.retrieval.encoder import (
    Encoder,
    cached_vectors,
    load_sentence_transformer,
    normalise_rows,
    pick_device,
    pick_dtype,
)
from ragft_pipeline.retrieval.metrics import mean_of, smallest_sufficient
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.data import Questions, TrainingTables, Validation
from ragft_pipeline.tuning.training import report_to, switch_off_dropout

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_LOADING = """
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(THIS_FOLDER)
# or in LlamaIndex
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
embed_model = HuggingFaceEmbedding(
    model_name=THIS_FOLDER, query_instruction={query!r}, text_instruction={document!r}
)
"""


def train_embedder(
    tables: TrainingTables,
    settings: Settings,
    work: Workspace,
) -> dict[str, Any]:
    """Tune the base embedder and save it into the workspace's model folder (safetensors).

    Returns facts: pairs, steps, loss, the chosen strength and val nDCG@10 before and after.
    """
    import torch

    recipe, embedder = settings.tuned_embedder, settings.embedder
    questions, nodes = tables.questions(recipe.max_pairs), tables.nodes()
    val = tables.validation()
    base = Encoder.base(embedder, settings.compute)
    _, base_queries = cached_vectors(work, base, val.questions.by_id(), "query")
    _, base_nodes = cached_vectors(work, base, val.nodes, "document")

    model = load_sentence_transformer(
        base.weights, embedder, pick_device(settings.compute), torch.float32
    )
    start = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    loss = _fit(model, questions, nodes, settings, work)
    model.max_seq_length = min(embedder.max_tokens, model.max_seq_length or embedder.max_tokens)
    end = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    strengths = sorted(set(recipe.strengths))
    after = []
    for strength in strengths:
        model.load_state_dict(interpolate(start, end, strength))
        after.append(val.ndcg(*_encode_val(model, val, settings)))
        work.progress(f"tuned_embedder: strength {strength}, val nDCG@10 {mean_of(after[-1]):.4f}")
    best = smallest_sufficient(strengths, after)
    model.load_state_dict(interpolate(start, end, strengths[best]))
    model.save_pretrained(str(work.model), create_model_card=False, safe_serialization=True)
    facts = {
        "strength": strengths[best],
        "pairs": len(questions),
        "loss": loss,
        "val_ndcg_at_10_base": mean_of(val.ndcg(base_queries, base_nodes)),
        "val_ndcg_at_10": mean_of(after[best]),
    }
    write_card(
        work.model,
        f"{settings.embedder.model}, tuned",
        "A sentence-transformers embedder tuned on questions about one corpus version.",
        {"base_digest": base.weights.digest, **facts, **recipe.model_dump(mode="json")},
        _LOADING.format(query=embedder.query_prompt, document=embedder.document_prompt),
    )
    return facts


def interpolate(
    start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], strength: float
) -> dict[str, torch.Tensor]:
    """Return weights between two states: strength 0 is `start`, 1 is `end`."""
    return {
        name: start[name] + strength * (end[name] - start[name])
        if end[name].is_floating_point()
        else end[name]
        for name in end
    }


def _encode_val(
    model: SentenceTransformer, val: Validation, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    embedder = settings.embedder
    if not len(val.questions):
        return np.zeros((0, 0)), np.zeros((0, 0))

    def encode(texts: list[str], prompt: str) -> np.ndarray:
        vectors = model.encode(
            texts, prompt=prompt or None, batch_size=settings.compute.batch_size,
            convert_to_tensor=True, show_progress_bar=False,
        )  # fmt: skip
        return normalise_rows(vectors.float().cpu().numpy())

    model.eval()
    return (
        encode(val.questions.texts, embedder.query_prompt),
        encode(list(val.nodes.values()), embedder.document_prompt),
    )


def _fit(
    model: SentenceTransformer,
    questions: Questions,
    nodes: dict[str, str],
    settings: Settings,
    work: Workspace,
) -> float:
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.training_args import BatchSamplers

    recipe, embedder = settings.tuned_embedder, settings.embedder
    data = Dataset.from_dict(
        {
            "anchor": [embedder.query_prompt + text for text in questions.texts],
            "positive": [embedder.document_prompt + nodes[key] for key in questions.node_ids],
        }
    )
    switch_off_dropout(model)
    device = pick_device(settings.compute)
    folder = work.folder / "trainer"
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=0.01,
        warmup_steps=recipe.warmup,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        bf16=pick_dtype(settings.compute) == torch.bfloat16,
        use_cpu=device == "cpu",
        dataloader_pin_memory=False,
        seed=recipe.seed,
        data_seed=recipe.seed,
        logging_steps=5,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model.max_seq_length = min(recipe.passage_tokens, model.max_seq_length or recipe.passage_tokens)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        loss=MultipleNegativesRankingLoss(model, scale=1 / recipe.temperature),
    )
    report_to(trainer, "tuned_embedder", work.progress)
    result = trainer.train()
    shutil.rmtree(folder, ignore_errors=True)
    return float(result.training_loss)
