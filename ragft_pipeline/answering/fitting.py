"""Supervised fine-tuning with LoRA: TRL's trainer, checkpoints that survive a kill, a budget."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.answering.plan import Plan, plan_training
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.devices import pick_device, wait_for
from ragft_pipeline.models.language_model import load_model, load_tokenizer
from ragft_pipeline.models.memory import trim
from ragft_pipeline.models.number_types import autocast, faster_dtype
from ragft_pipeline.models.quiet import quiet_transformers
from ragft_pipeline.models.weights import Weights
from ragft_pipeline.settings import ComputeSettings, TunedLLMSettings
from ragft_pipeline.tuning.training import on_one_device, report_to

_COMPLETE = "complete.json"  # written into a checkpoint when all of it is there
_SECONDS = 60.0  # between checkpoints
_CUT = ("claim", "keywords", "heading")


@dataclass(frozen=True)
class Fit:
    """A trained PEFT model, its tokenizer and what training took."""

    model: Any
    tokenizer: Any
    plan: Plan
    steps: int
    tokens: int
    seconds: float
    train_loss: float
    val_loss: Callable[[], float]


def fit_adapter(
    train: pa.Table, val: pa.Table, weights: Weights, folder: Path,
    recipe: TunedLLMSettings, compute: ComputeSettings, report: Callable[[str], None],
) -> Fit:  # fmt: skip
    """Train a LoRA adapter on the answers of chats; the best by val loss is what is returned.

    Args:
        train, val: CHATS.
        folder: for the plan and the checkpoints; where it holds some, training goes on from them.
    """
    quiet_transformers()
    import torch
    from datasets import disable_progress_bars
    from trl import SFTTrainer

    disable_progress_bars()
    torch.manual_seed(recipe.seed)
    tokenizer, model = _base(weights, recipe, compute)
    parts = {
        name: _examples(chats, tokenizer, recipe)
        for name, chats in (("train", train), ("val", val))
    }
    if not parts["train"]:
        raise RagftError("tuned_llm: there is no chat to train on; see chats.* in ragft.yaml")
    lengths = {name: [len(one["input_ids"]) for one in part] for name, part in parts.items()}
    plan = plan_training(
        folder / "plan.json", recipe, lengths["train"], lengths["val"],
        lambda: _seconds_a_token(model, parts["train"], recipe, compute),
    )  # fmt: skip
    seen = parts["train"][: plan.steps * recipe.batch_size]  # the natural ones, where few can be
    clock = _clock(recipe, plan)
    trainer = SFTTrainer(
        model=model,
        args=on_one_device(_arguments(folder, recipe, plan, compute, bool(parts["val"]))),
        train_dataset=_dataset(seen),
        eval_dataset=_dataset(parts["val"]) if parts["val"] else None,
        processing_class=tokenizer,
        callbacks=[clock, *_early_stopping(recipe, bool(parts["val"]))],
    )
    report_to(trainer, "tuned_llm", report)
    last = _last_complete(folder)
    if last is not None:
        clock.before = json.loads((last / _COMPLETE).read_text(encoding="utf-8"))["seconds"]
        report(f"tuned_llm: going on from {last.name}")
    report(f"tuned_llm: {plan.steps} steps of {plan.tokens_a_step:.0f} tokens")
    trained = trainer.train(resume_from_checkpoint=str(last) if last else None)
    return Fit(
        trainer.model,
        tokenizer,
        plan,
        trainer.state.global_step,
        int(trainer.state.num_input_tokens_seen or trainer.state.global_step * plan.tokens_a_step),
        clock.seconds,
        float(trained.training_loss),
        lambda: float(trainer.evaluate()["eval_loss"]) if parts["val"] else float("nan"),
    )


def _base(weights: Weights, recipe: TunedLLMSettings, compute: ComputeSettings) -> tuple[Any, Any]:
    """Return the tokenizer, and the base model with a fresh adapter around it."""
    import torch
    from peft import LoraConfig, get_peft_model

    given: dict[str, Any] = {}
    if recipe.four_bit:
        given |= {"quantization_config": _four_bit(compute), "dtype": "auto"}
    elif pick_device(compute) == "cpu":
        given["dtype"] = torch.float32  # it learns worse in others; products may be (autocast)
    trust = recipe.trust_remote_code
    tokenizer = load_tokenizer(weights, trust)
    model = load_model(weights, compute, trust, **given)
    if not recipe.merged and not recipe.four_bit:
        _store_as_multiplied(model, compute)
    number = model.config.num_hidden_layers
    lora = LoraConfig(
        r=recipe.rank,
        lora_alpha=2 * recipe.rank,
        lora_dropout=0.0,
        target_modules=list(recipe.targets) or "all-linear",
        layers_to_transform=list(range(number - recipe.layers, number)) if recipe.layers else None,
        task_type="CAUSAL_LM",
    )
    return tokenizer, get_peft_model(model, lora)


def _store_as_multiplied(model: Any, compute: ComputeSettings) -> None:
    """Store frozen matrices in the number type that autocast turns them into at every product.

    The products are the same to the bit, for a seventh less time and half of the memory. A model
    that is saved merged keeps its own.
    """
    import torch

    shared = model.get_output_embeddings()  # where it is the word vectors' own matrix
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not shared:
            module.weight.data = module.weight.data.to(faster_dtype(compute))
    for parameter in model.parameters():  # what still lies in the file's map holds all of it
        if parameter.dtype == torch.float32:
            parameter.data = parameter.data.clone()
    trim()


def _four_bit(compute: ComputeSettings) -> Any:
    import importlib.util

    if pick_device(compute) != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise RagftError("tuned_llm.four_bit = true: needs an NVIDIA GPU and bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=faster_dtype(compute),
    )


def most_natural_first(chats: pa.Table) -> pa.Table:
    """Return CHATS with what people, models and users wrote before what was cut from claims."""
    cut = pc.is_in(chats.column("kind"), value_set=pa.array(_CUT))
    return chats.append_column("cut", cut).sort_by([("cut", "ascending"), ("chat_id", "ascending")])


def _examples(
    chats: pa.Table, tokenizer: Any, recipe: TunedLLMSettings
) -> list[dict[str, list[int]]]:
    """Return token ids and labels: the answer's tokens, and -100 for all before it.

    A chat of more than `max_tokens` is left out: cut, it would lose its question or its answer.
    """
    examples = []
    for messages in most_natural_first(chats).column("messages").to_pylist():
        prompt = tokenizer.apply_chat_template(
            messages[:-1], tokenize=False, add_generation_prompt=True
        )
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        if not whole.startswith(prompt):  # a template that rewrites what came before
            whole = prompt + messages[-1]["content"] + tokenizer.eos_token
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        after = tokenizer(whole[len(prompt) :].rstrip("\n"), add_special_tokens=False)["input_ids"]
        if len(before) + len(after) <= recipe.max_tokens:
            examples.append({"input_ids": before + after, "labels": [-100] * len(before) + after})
    return examples


def _dataset(examples: list[dict[str, list[int]]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(examples)


def _seconds_a_token(
    model: Any,
    examples: list[dict[str, list[int]]],
    recipe: TunedLLMSettings,
    compute: ComputeSettings,
) -> float:
    """Time forward and backward of what a step has at once, the second time round.

    That is as many examples of middling length as go together.
    """
    import torch

    device = pick_device(compute)
    middling = sorted(examples, key=lambda one: len(one["input_ids"]))[len(examples) // 2]
    length = len(middling["input_ids"])
    together = min(recipe.micro_batch_size, recipe.batch_size)
    inputs = {
        name: torch.tensor([values] * together, device=device) for name, values in middling.items()
    }
    model.train()
    for _ in range(2):
        start = time.perf_counter()
        with autocast(compute):
            loss = model(**inputs).loss
        loss.backward()
        wait_for(device)
        seconds = time.perf_counter() - start
    model.zero_grad()
    del loss
    trim()
    return seconds / (together * length)


def _arguments(
    folder: Path, recipe: TunedLLMSettings, plan: Plan, compute: ComputeSettings, has_val: bool
) -> Any:
    import torch
    from trl import SFTConfig

    device = pick_device(compute)
    micro = min(recipe.micro_batch_size, recipe.batch_size)
    every = max(1, -(-plan.steps // recipe.evaluations))
    evaluating: dict[str, Any] = {}
    if has_val:
        evaluating = {
            "eval_strategy": "steps", "eval_steps": every, "per_device_eval_batch_size": micro,
            "load_best_model_at_end": True, "metric_for_best_model": "eval_loss",
            "greater_is_better": False, "save_strategy": "steps", "save_steps": every,
        }  # fmt: skip
    else:
        evaluating = {"save_strategy": "steps", "save_steps": every}
    return SFTConfig(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=max(1, recipe.batch_size // micro),
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(recipe.warmup * plan.steps),
        max_length=None,
        padding_free=recipe.packing,  # each attends within itself: TRL restarts their positions
        gradient_checkpointing=recipe.gradient_checkpointing,
        bf16=faster_dtype(compute) == torch.bfloat16,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        save_total_limit=2,
        logging_steps=max(1, plan.steps // 20),
        seed=recipe.seed,
        data_seed=recipe.seed,
        disable_tqdm=True,
        report_to=[],
        **evaluating,
    )


def _early_stopping(recipe: TunedLLMSettings, has_val: bool) -> list[Any]:
    from transformers import EarlyStoppingCallback

    return [EarlyStoppingCallback(recipe.patience)] if has_val else []


def _clock(recipe: TunedLLMSettings, plan: Plan) -> Any:
    """Return the callback that keeps time: it saves every minute and stops at the budget's end."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        before = 0.0
        _start = _saved = 0.0

        @property
        def seconds(self) -> float:
            return self.before + time.monotonic() - self._start

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self._start = self._saved = time.monotonic()

        def on_substep_end(self, *_: Any, **__: Any) -> None:
            trim()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            trim()
            if time.monotonic() - self._saved >= _SECONDS:
                control.should_save = True
            if recipe.budget.minutes and self.seconds >= 60 * recipe.budget.minutes:
                control.should_training_stop = control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._saved = time.monotonic()
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (checkpoint / _COMPLETE).write_text(json.dumps({"seconds": self.seconds}))

    return Clock()


def _last_complete(folder: Path) -> Path | None:
    """Return the last checkpoint that was written to its end; half a one is removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    for path in found:
        if not (path / _COMPLETE).is_file():
            shutil.rmtree(path, ignore_errors=True)
    whole = [path for path in found if path.is_dir()]
    return whole[-1] if whole else None
