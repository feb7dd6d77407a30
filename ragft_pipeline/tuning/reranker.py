"""The reranker: a cross-encoder over the hybrid's candidates, stopped early on ranking quality.

It starts from any cross-encoder; with the embedded default from MiniLM's first layers and a new
head, which learns from short windows first (tuning/reranker_lists.py). Losses by name: `distill` is
ListNet (Cao et al. 2007) towards the source and the teacher's scores, `lambda` is LambdaLoss (Wang
et al. 2018), `bce` is binary cross-entropy.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.retrieval.encoder import Encoder, pick_device, pick_dtype
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.retrieval.metrics import PRIMARY, mean_of, score_rankings
from ragft_pipeline.retrieval.reranking import (
    is_cross_encoder,
    load_cross_encoder,
    new_cross_encoder,
)
from ragft_pipeline.settings import RerankerSettings, Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.candidates import hybrid_candidates
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.data import TrainingTables, Validation
from ragft_pipeline.tuning.reranker_lists import ListMaker, TrainingList, training_columns
from ragft_pipeline.tuning.training import report_to, switch_off_dropout
from ragft_pipeline.weights import require_embedder, resolve_weights

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

_NEW_HEAD_RATE, _CROSS_ENCODER_RATE = 1e-4, 2e-5
_HEAD_FASTER = 10  # a new head learns at so many times the rate of what is below it
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

    Returns facts: lists, pairs, the first and last losses, and nDCG@10 of val candidates as the
    first stage has them and reranked.
    """
    import torch

    recipe = settings.reranker
    weights = require_embedder(resolve_weights(recipe.model))
    new_head = not is_cross_encoder(weights.folder)
    questions = tables.questions(recipe.max_questions)
    maker = ListMaker(tables.train_nodes, teacher, recipe)
    lists = maker.lists(questions, recipe.easy_share if new_head else 0.0)
    val = _candidates(tables.validation(recipe.val_questions), statistics, settings, work)

    torch.manual_seed(recipe.seed)
    start = new_cross_encoder if new_head else load_cross_encoder
    model = start(weights.folder, recipe, pick_device(settings.compute), torch.float32)
    keep_layers(model, recipe.layers)
    fitted = fit_reranker(model, lists, val, new_head, settings, work)
    model.save_pretrained(str(work.model), create_model_card=False, safe_serialization=True)
    facts = {
        "questions": len(questions),
        "pairs": sum(len(one.passages) for one in lists),
        "easy_lists": sum(one.easy for one in lists),
        **fitted,
        "val_ndcg_at_10_first_stage": val.first_stage() if val else 0.0,
    }
    write_card(
        work.model,
        f"Reranker from {recipe.model}",
        "A cross-encoder tuned to rerank a hybrid's candidates on one corpus version.",
        {"base_digest": weights.digest, **facts, **recipe.model_dump(mode="json")},
        _LOADING.format(max_length=recipe.max_tokens),
    )
    return facts


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


@dataclass(frozen=True)
class Candidates:
    """Val questions with their first stage's candidates, best first, shape (questions, depth)."""

    val: Validation
    nodes: np.ndarray

    def pairs(self) -> list[tuple[str, str]]:
        """Return every (question, passage), a question's candidates together."""
        texts = list(self.val.nodes.values())
        asked = self.val.questions.texts
        return [(text, texts[i]) for text, row in zip(asked, self.nodes) for i in row]

    def ndcg(self, scores: np.ndarray, depth: int) -> float:
        """Return the mean nDCG@10 with the first `depth` reordered by scores of that shape."""
        order = np.argsort(-scores[:, :depth], axis=1, kind="stable")
        reordered = np.take_along_axis(self.nodes[:, :depth], order, axis=1)
        ranking = np.concatenate([reordered, self.nodes[:, depth:]], axis=1)
        return mean_of(score_rankings(ranking, self.val.relevant())[PRIMARY])

    def first_stage(self) -> float:
        """Return the mean nDCG@10 of the candidates as they are."""
        return mean_of(score_rankings(self.nodes, self.val.relevant())[PRIMARY])


def _candidates(
    val: Validation, statistics: TermStatistics, settings: Settings, work: Workspace
) -> Candidates | None:
    """Return the val questions' candidates from the untuned hybrid; None without questions."""
    if not len(val.questions):
        return None
    encoder = Encoder.base(settings.embedder, settings.compute)
    depth = max(settings.reranker.val_depths)
    return Candidates(val, hybrid_candidates(val, statistics, depth, encoder, work)[0])


def fit_reranker(
    model: CrossEncoder,
    lists: Sequence[TrainingList],
    val: Candidates | None,
    new_head: bool,
    settings: Settings,
    work: Workspace,
) -> dict[str, float]:
    """Train on the lists in their order and keep the checkpoint that ranks val best.

    Returns facts: steps, the losses of the first and of the last steps, and val nDCG@10: by
    depth, and their mean as `val_ndcg_at_10`.
    """
    import torch
    from datasets import Dataset
    from sentence_transformers.cross_encoder import (
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
    )
    from transformers import EarlyStoppingCallback

    recipe = settings.reranker
    switch_off_dropout(model)
    words = model.transformers_model.get_input_embeddings()
    words.weight.requires_grad_(False)  # words that no list shows stay comparable to those shown
    columns = training_columns(lists, recipe)
    size = recipe.batch_size
    if recipe.recipe == "bce":
        size *= 1 + recipe.hard_negatives + recipe.medium_negatives + recipe.random_negatives
    steps = -(-len(columns["query"]) // size)
    rate = recipe.learning_rate or (_NEW_HEAD_RATE if new_head else _CROSS_ENCODER_RATE)
    every = max(1, steps // recipe.evaluations)
    strategy = "steps" if val else "no"
    folder = work.folder / "trainer"
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=size,
        batch_sampler=_in_order,
        learning_rate=rate,
        learning_rate_mapping={r"\b2\.linear\.": rate * _HEAD_FASTER} if new_head else {},
        weight_decay=0.01,
        warmup_steps=recipe.warmup,
        bf16=pick_dtype(settings.compute) == torch.bfloat16,
        use_cpu=pick_device(settings.compute) == "cpu",
        dataloader_pin_memory=False,
        seed=recipe.seed,
        data_seed=recipe.seed,
        eval_strategy=strategy,
        eval_steps=every,
        save_strategy=strategy,
        save_steps=every,
        save_total_limit=1,
        load_best_model_at_end=val is not None,
        metric_for_best_model=f"eval_{_METRIC}",
        logging_first_step=True,
        logging_steps=5,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        loss=_loss(model, recipe),
        evaluator=_evaluator(val, settings) if val else None,
        callbacks=[EarlyStoppingCallback(recipe.patience)] if val else [],
    )
    report_to(trainer, "reranker", work.progress)
    trainer.train()
    shutil.rmtree(folder, ignore_errors=True)
    return _fitted(trainer.state, recipe)


def _in_order(data: Any, **known: Any) -> Any:
    """Return the Trainer's batches in the order of the lists, not shuffled."""
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler

    return DefaultBatchSampler(SequentialSampler(data), **known)


def _fitted(state: Any, recipe: RerankerSettings) -> dict[str, float]:
    losses = [float(entry["loss"]) for entry in state.log_history if "loss" in entry]
    facts = {"steps": float(state.global_step)}
    if losses:
        facts |= {"loss_first": losses[0], "loss_last": losses[-1]}
    if state.best_metric is not None:
        kept = max(
            (entry for entry in state.log_history if f"eval_{_METRIC}" in entry),
            key=lambda entry: float(entry[f"eval_{_METRIC}"]),
        )
        for depth in recipe.val_depths:
            facts[f"val_ndcg_at_10_of_{depth}"] = float(kept[f"eval_{_METRIC}_of_{depth}"])
        facts["val_ndcg_at_10"] = float(state.best_metric)
    return facts


def _loss(model: CrossEncoder, recipe: RerankerSettings) -> torch.nn.Module:
    import torch
    from sentence_transformers.cross_encoder.losses import (
        BinaryCrossEntropyLoss,
        LambdaLoss,
        ListNetLoss,
    )

    if recipe.recipe == "bce":
        negatives = recipe.hard_negatives + recipe.medium_negatives + recipe.random_negatives
        return BinaryCrossEntropyLoss(model, pos_weight=torch.tensor(float(negatives)))
    losses = {"lambda": LambdaLoss, "distill": ListNetLoss}
    return losses[recipe.recipe](model, mini_batch_size=-1)  # all candidates of a step at once


def _evaluator(candidates: Candidates, settings: Settings) -> Any:
    from sentence_transformers.base.evaluation import BaseEvaluator

    depths = settings.reranker.val_depths

    class ValRanking(BaseEvaluator):
        """Mean nDCG@10 of val candidates reranked to several depths, each pair scored once."""

        def __init__(self) -> None:
            super().__init__()
            self.primary_metric = _METRIC

        def __call__(self, model: CrossEncoder, *_: Any, **__: Any) -> dict[str, float]:
            scores = model.predict(
                candidates.pairs(),
                batch_size=settings.compute.batch_size,
                show_progress_bar=False,
            ).reshape(candidates.nodes.shape)
            found = {f"{_METRIC}_of_{depth}": candidates.ndcg(scores, depth) for depth in depths}
            return {_METRIC: float(np.mean(list(found.values()))), **found}

    return ValRanking()
