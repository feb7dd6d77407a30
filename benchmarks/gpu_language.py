"""Stages of benchmarks.gpu with a language model: LoRA in three ways, and answering in batches."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.gpu_bench import Bench, Missing, Row, computing_in, quiet, relative_error
from benchmarks.gpu_data import chats
from benchmarks.gpu_floor import Work, forward_operations, timed
from ragft_pipeline.answering.fitting import fit_adapter
from ragft_pipeline.models.devices import pick_device
from ragft_pipeline.models.language_model import LanguageModel, answering_dtype
from ragft_pipeline.models.weights import require_language_model, resolve_weights
from ragft_pipeline.settings import Budget, ComputeSettings, TunedLLMSettings

_STEP, _LARGE_STEP = 4, 16  # chats a step: compared, timed
_VAL = 2


def lora(bench: Bench) -> Iterator[Row]:
    """LoRA in bfloat16, with packing, and over 4 bits; the loss on val chats is compared."""
    compared, many = bench.sizes.chats
    with computing_in("float32"):
        wanted = _Run.of(bench, bench.beside, compared, _STEP)
    for packing in (False, True):
        with computing_in("bfloat16"):
            found = _Run.of(bench, bench.here, compared, _STEP, packing=packing)
            large = found
            if many > compared:
                large = _Run.of(bench, bench.here, many, _LARGE_STEP, packing=packing)
        name = "LoRA, packed" if packing else "LoRA"
        yield _row(name, "bfloat16", found, wanted, large)
    if bench.device != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise Missing("4 bits: an NVIDIA GPU with bitsandbytes")
    with computing_in("bfloat16"):
        found = _Run.of(bench, bench.here, compared, _STEP, four_bit=True)
        quantized = _Run.of(bench, bench.here, many, _LARGE_STEP, four_bit=True)
    # a matrix in 4 bits does not say how many numbers it has
    work = replace(quantized.work, operations=large.work.operations)
    large = replace(quantized, work=work)
    yield _row("LoRA", "4 bits", found, wanted, large)


def _row(name: str, dtype: str, found: _Run, wanted: _Run, large: _Run) -> Row:
    error = abs(found.val_loss - wanted.val_loss) / wanted.val_loss
    return Row(
        name, dtype, "tokens", error, None, large.tokens / large.seconds,
        wanted.tokens / wanted.seconds, large.seconds, large.work,
    )  # fmt: skip


@dataclass(frozen=True)
class _Run:
    val_loss: float
    tokens: float
    seconds: float
    work: Work

    @classmethod
    def of(
        cls, bench: Bench, compute: ComputeSettings, number: int, step: int, **changes: Any
    ) -> _Run:
        """Train one epoch on so many chats."""
        recipe = TunedLLMSettings(
            model=bench.language_model, epochs=1.0, budget=Budget(minutes=0), batch_size=step,
            micro_batch_size=min(step, 4 if bench.device == "cpu" else step), **changes,
        )  # fmt: skip
        texts = bench.texts.windows(number + _VAL)
        folder = bench.folder / "lora" / f"{compute.device}-{number}-{len(changes)}-{changes}"
        folder.mkdir(parents=True)
        weights = require_language_model(resolve_weights(recipe.model))
        fit = fit_adapter(
            chats(texts, number), chats(texts[number:], _VAL), weights, folder, recipe, compute,
            quiet,
        )  # fmt: skip
        seconds, tokens = fit.seconds, fit.steps * fit.plan.tokens_a_step
        lengths = [fit.plan.tokens_a_step / step] * (fit.steps * step)
        # forward, and back through the frozen weights to the adapters below
        operations = 2 * forward_operations(fit.model, lengths)
        weight_bytes = sum(part.nbytes for part in fit.model.parameters())
        made = cls(fit.val_loss(), tokens, seconds, Work(operations, 2 * fit.steps * weight_bytes))
        del fit
        gc.collect()
        return made


def answering(bench: Bench) -> Iterator[Row]:
    """Greedy answers in batches; the losses on passages are compared."""
    compared, many = bench.sizes.answers
    weights = require_language_model(resolve_weights(bench.language_model))
    passages = bench.texts.windows(many)
    asked = [messages[:-1] for messages in chats(passages, many).column("messages").to_pylist()]
    read = passages[:_VAL]
    beside = LanguageModel.load(weights, bench.beside, dtype="float32")
    replies, taken = timed("cpu", beside.answer, asked[:compared], bench.sizes.new_tokens, compared)
    cpu_rate = sum(reply.completion_tokens for reply in replies) / taken
    wanted = beside.losses(read)
    for dtype in dict.fromkeys(("float32", answering_dtype(bench.here))):
        model = LanguageModel.load(weights, bench.here, dtype=dtype)
        error = relative_error(model.losses(read), wanted)
        batch = compared if bench.device == "cpu" else 64
        model.answer(asked[:compared], 2, batch)
        device = pick_device(bench.here)
        given, seconds = timed(device, model.answer, asked, bench.sizes.new_tokens, batch)
        written = sum(reply.completion_tokens for reply in given)
        lengths = [reply.prompt_tokens + reply.completion_tokens for reply in given]
        passes = -(-many // batch) * bench.sizes.new_tokens
        size = sum(part.nbytes for part in model.model.parameters())
        yield Row(
            "answering", dtype, "tokens", error, None, written / seconds, cpu_rate, seconds,
            Work(forward_operations(model.model, lengths), float(passes * size)),
        )  # fmt: skip
