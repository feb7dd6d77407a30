"""How a cross-encoder is trained: lists in their order, losses by name, val as the judge.

`distill` is ListNet (Cao et al. 2007) towards the source and the teacher's scores, `lambda` is
LambdaLoss (Wang et al. 2018), `bce` is binary cross-entropy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragft_pipeline.compute import Report, share
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.devices import pick_device, texts_at_once
from ragft_pipeline.models.number_types import faster_dtype
from ragft_pipeline.models.weights import Weights, found_here
from ragft_pipeline.retrieval.metrics import PRIMARY, mean_of, score_rankings
from ragft_pipeline.retrieval.reranking import load_cross_encoder, new_cross_encoder
from ragft_pipeline.settings import RerankerSettings, Settings
from ragft_pipeline.tuning.data import Validation
from ragft_pipeline.tuning.layers import keep_layers
from ragft_pipeline.tuning.reranker_lists import TrainingList, training_columns
from ragft_pipeline.tuning.training import on_one_device, report_to, switch_off_dropout, weights_of

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

_NEW_HEAD_RATE, _CROSS_ENCODER_RATE = 1e-4, 2e-5
_HEAD_FASTER = 10  # a new head learns at so many times the rate of what is below it
_METRIC = "val_ndcg@10"
_SPREAD = "val_spread"
COLLAPSED = 1e-3  # scores of a question's candidates that differ by less say nothing
_LEARNT = 0.02  # a loss that is not lower than equal scores' by this share has learnt nothing
_FEWEST = 4  # losses that say so


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


@dataclass(frozen=True)
class ListTraining:
    """Training on lists in their order, to the checkpoint that ranks val best.

    Attributes:
        weights, new_head: where the cross-encoder starts, and whether its head is new.
        folder: for the Trainer's checkpoints; all processes of a group see it.
    """

    weights: Weights
    new_head: bool
    lists: Sequence[TrainingList]
    val: Candidates | None
    settings: Settings
    folder: Path

    def start(self) -> CrossEncoder:
        """Return the cross-encoder to begin with."""
        import torch

        recipe = self.settings.reranker
        torch.manual_seed(recipe.seed)
        load = new_cross_encoder if self.new_head else load_cross_encoder
        device = pick_device(self.settings.compute)
        model = load(found_here(self.weights).folder, recipe, device, torch.float32)
        keep_layers(model.transformers_model, recipe.layers)
        return model

    def __call__(self, report: Report) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Return the weights, and facts: steps, the losses of the first and of the last steps.

        Also val nDCG@10: by depth, and their mean as `val_ndcg_at_10`.
        """
        model = self.start()
        state = self._fit(model, report)
        return weights_of(model), _fitted(state, self.settings.reranker, self.chance)

    @property
    def chance(self) -> float:
        """The loss of equal scores."""
        return loss_at_chance([len(one.passages) for one in self.lists], self.settings.reranker)

    def _fit(self, model: CrossEncoder, report: Report) -> Any:
        import torch
        from datasets import Dataset
        from sentence_transformers.cross_encoder import (
            CrossEncoderTrainer,
            CrossEncoderTrainingArguments,
        )
        from transformers import EarlyStoppingCallback

        recipe, val = self.settings.reranker, self.val
        switch_off_dropout(model)
        words = model.transformers_model.get_input_embeddings()
        # words that no list shows stay comparable to those shown
        words.weight.requires_grad_(False)
        processes = share()[1]
        if processes > 1:
            freeze_unused(model)
        columns = training_columns(self.lists, recipe)
        size = recipe.batch_size
        if recipe.recipe == "bce":
            size *= 1 + recipe.hard_negatives + recipe.medium_negatives + recipe.random_negatives
        if size % processes:
            raise RagftError(
                f"compute.ray.trainers = {processes}: must divide the reranker's {size} of a step"
            )
        columns = full_steps(columns, size)
        if processes > 1 and len(columns["query"]) < size:
            raise RagftError(
                f"compute.ray.trainers = {processes}: too few questions for a step of {size}"
            )
        steps = -(-len(columns["query"]) // size)
        rate = recipe.learning_rate or (_NEW_HEAD_RATE if self.new_head else _CROSS_ENCODER_RATE)
        every = max(1, steps // recipe.evaluations)
        strategy = "steps" if val else "no"
        device = pick_device(self.settings.compute)
        arguments = CrossEncoderTrainingArguments(
            output_dir=str(self.folder),
            num_train_epochs=1,
            per_device_train_batch_size=size // processes,
            batch_sampler=_in_order,
            learning_rate=rate,
            learning_rate_mapping={r"\b2\.linear\.": rate * _HEAD_FASTER} if self.new_head else {},
            weight_decay=0.01,
            warmup_steps=recipe.warmup,
            bf16=faster_dtype(self.settings.compute) == torch.bfloat16,
            use_cpu=device == "cpu",
            dataloader_pin_memory=device == "cuda",
            ddp_find_unused_parameters=False,
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
            args=on_one_device(arguments),
            train_dataset=Dataset.from_dict(columns),
            loss=_loss(model, recipe),
            evaluator=_evaluator(val, self.settings) if val else None,
            callbacks=[EarlyStoppingCallback(recipe.patience), _stop_collapsed(self.chance)]
            if val
            else [],
        )
        report_to(trainer, "reranker", report)
        trainer.train()
        return trainer.state


def full_steps(columns: dict[str, list[Any]], size: int) -> dict[str, list[Any]]:
    """Leave out the rest that fills no step, as a group of processes would; keep a lone one."""
    rows = len(columns["query"])
    kept = rows - rows % size if rows > size else rows
    return {name: values[:kept] for name, values in columns.items()}


def freeze_unused(model: CrossEncoder) -> None:
    """Freeze what no score depends on, such as a pooler before a new head.

    It would not learn either way, but a group of processes waits for the gradients of all that may.
    """
    from sentence_transformers.util import batch_to_device

    features = model.preprocess([("question", "passage")])
    model(batch_to_device(features, model.device))["scores"].sum().backward()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    model.zero_grad()


def _in_order(data: Any, **known: Any) -> Any:
    """Return the Trainer's batches in the order of the lists, not shuffled."""
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler

    return DefaultBatchSampler(SequentialSampler(data), **known)


def loss_at_chance(candidates: Sequence[int], recipe: RerankerSettings) -> float:
    """Return the mean loss where all candidates of a question score the same.

    NaN for `lambda`, whose weights of pairs depend on an order that equal scores do not have.

    Args:
        candidates: how many each list has; one of them is the source.
    """
    sizes = np.array(candidates, float)
    if recipe.recipe == "distill":
        return mean_of(np.log(sizes))
    if recipe.recipe == "bce":  # sources weigh as much as their negatives together
        negatives = recipe.hard_negatives + recipe.medium_negatives + recipe.random_negatives
        return float(np.log(2) * (negatives * len(sizes) + (sizes - 1).sum()) / sizes.sum())
    return float("nan")


def stays_at_chance(losses: Sequence[float], chance: float) -> bool:
    """Say whether the later half of a training's losses is no lower than equal scores'."""
    later = losses[len(losses) // 2 :]
    return len(losses) >= _FEWEST and bool(np.mean(later) >= (1 - _LEARNT) * chance)


def _losses(state: Any) -> list[float]:
    return [float(entry["loss"]) for entry in state.log_history if "loss" in entry]


def _fitted(state: Any, recipe: RerankerSettings, chance: float) -> dict[str, float]:
    losses = _losses(state)
    facts = {"steps": float(state.global_step)}
    if losses:
        facts |= {"loss_first": losses[0], "loss_last": losses[-1]}
    facts["at_chance"] = float(stays_at_chance(losses, chance))
    if state.best_metric is not None:
        kept = max(
            (entry for entry in state.log_history if f"eval_{_METRIC}" in entry),
            key=lambda entry: float(entry[f"eval_{_METRIC}"]),
        )
        for depth in recipe.val_depths:
            facts[f"val_ndcg_at_10_of_{depth}"] = float(kept[f"eval_{_METRIC}_of_{depth}"])
        facts["val_ndcg_at_10"] = float(state.best_metric)
        facts["val_spread"] = float(kept[f"eval_{_SPREAD}"])
        last = [entry for entry in state.log_history if f"eval_{_SPREAD}" in entry][-1]
        facts["collapsed"] = float(last[f"eval_{_SPREAD}"] < COLLAPSED)
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


def _stop_collapsed(chance: float) -> Any:
    """Return what ends a training that tells no candidate of a question from another.

    Because all have the same score, or because halfway the loss is still that of equal ones.
    """
    from transformers import TrainerCallback

    class Collapse(TrainerCallback):
        """Looks at the spread of scores, and at the losses, after each evaluation."""

        def on_evaluate(self, args: Any, state: Any, control: Any, **known: Any) -> Any:
            """Stop where there is none, or where they show nothing learnt."""
            same = known["metrics"].get(f"eval_{_SPREAD}", 1.0) < COLLAPSED
            halfway = 2 * state.global_step >= state.max_steps
            if same or (halfway and stays_at_chance(_losses(state), chance)):
                control.should_training_stop = True
            return control

    return Collapse()


def _evaluator(candidates: Candidates, settings: Settings) -> Any:
    from sentence_transformers.base.evaluation import BaseEvaluator

    depths = settings.reranker.val_depths

    class ValRanking(BaseEvaluator):
        """Mean nDCG@10 of val candidates reranked to several depths, each pair scored once."""

        def __init__(self) -> None:
            super().__init__()
            self.primary_metric = _METRIC

        def __call__(self, model: CrossEncoder, *_: Any, **__: Any) -> dict[str, float]:
            tokens = settings.reranker.max_tokens
            scores = model.predict(
                candidates.pairs(),
                batch_size=texts_at_once(settings.compute, tokens, model.transformers_model),
                show_progress_bar=False,
            ).reshape(candidates.nodes.shape)
            found = {f"{_METRIC}_of_{depth}": candidates.ndcg(scores, depth) for depth in depths}
            spread = float(scores.std(axis=1).mean())
            return {_METRIC: float(np.mean(list(found.values()))), _SPREAD: spread, **found}

    return ValRanking()
