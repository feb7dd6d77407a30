"""The tuned answering model: trained, then weakened as far as the guard asks for.

Between base and tuned weights a strength chooses (WiSE-FT, Wortsman et al. 2022): of those that
cost general text no more than allowed, the one with the lowest loss on val chats.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.answering.guard import guard_texts, perplexity_change
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.language_model import LanguageModel
from ragft_pipeline.models.memory import trim
from ragft_pipeline.models.weights import Weights, require_language_model, resolve_weights
from ragft_pipeline.schemas import CHATS
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace, table_digest
from ragft_pipeline.store.files import write_json
from ragft_pipeline.tuning.cards import write_card

if TYPE_CHECKING:
    from ragft_pipeline.answering.fitting import Fit

BASE_FILE = "base.json"
MERGED_FOLDER = "merged"
_LOADING = """
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), THIS_FOLDER)
# or in LlamaIndex, of merged/ (tuned_llm.merged: true)
from llama_index.llms.huggingface import HuggingFaceLLM
llm = HuggingFaceLLM(model_name=MERGED, tokenizer_name=MERGED)
"""


def tune_language_model(
    train: pa.Table, val: pa.Table, settings: Settings, work: Workspace
) -> dict[str, Any]:
    """Tune the answering model and save its adapter into the workspace's model folder.

    A training that was killed goes on from its last checkpoint, below the store's staging folder.

    Args:
        train, val: CHATS; of val the first `val_chats` by hash.

    Returns facts: steps, tokens, seconds, losses, strength, and what the guard text lost.
    """
    from ragft_pipeline.answering.fitting import fit_adapter

    recipe = settings.tuned_llm
    weights = require_language_model(resolve_weights(recipe.model))
    val = val.sort_by("chat_id").slice(0, recipe.val_chats)
    training = digest_of(
        recipe.digest(), weights.digest, settings.compute.dtype, work.code,
        [table_digest(chats, CHATS.volatile) for chats in (train, val)],
    )  # fmt: skip
    folder = work.store.root / "staging" / "training" / f"{work.asset}-{training[:24]}"
    folder.mkdir(parents=True, exist_ok=True)
    fit = fit_adapter(train, val, weights, folder, recipe, settings.compute, work.progress)
    facts = _save(fit, weights, settings, work)
    shutil.rmtree(folder, ignore_errors=True)
    return facts


def _save(fit: Fit, weights: Weights, settings: Settings, work: Workspace) -> dict[str, Any]:
    recipe, folder = settings.tuned_llm, work.model
    facts = {
        "steps": fit.steps,
        "train_tokens": fit.tokens,
        "train_seconds": round(fit.seconds, 1),
        "train_loss": fit.train_loss,
        **choose_strength(fit, settings, work),
    }
    _scale(fit.model, facts["strength"], for_good=True)
    fit.model.peft_config["default"].base_model_name_or_path = recipe.model
    fit.model.save_pretrained(str(folder), safe_serialization=True)
    write_json(folder / BASE_FILE, {"model": recipe.model, "digest": weights.digest})
    if recipe.merged:
        merged = fit.model.merge_and_unload()
        if recipe.four_bit:  # what was rounded to 4 bits would lose the tuning
            trust = recipe.trust_remote_code
            merged = LanguageModel.load(weights, settings.compute, trust, folder, "float32").model
        for part in (merged, fit.tokenizer):
            part.save_pretrained(str(folder / MERGED_FOLDER))
    write_card(
        folder,
        f"{recipe.model}, tuned to answer",
        "A LoRA adapter of a language model that answers from the passages of one corpus version.",
        {"base_digest": weights.digest, **facts, **recipe.model_dump(mode="json")},
        _LOADING,
    )
    return facts


def choose_strength(fit: Fit, settings: Settings, work: Workspace) -> dict[str, Any]:
    """Return the strength to save with, the val loss and the guard's change before and with it."""
    from ragft_pipeline.models.number_types import autocast

    recipe = settings.tuned_llm
    model, texts = LanguageModel(fit.tokenizer, fit.model.eval()), guard_texts("choosing")
    tried = {}
    for strength in sorted({0.0, *recipe.strengths}):
        _scale(fit.model, strength)
        with autocast(settings.compute):
            tried[strength] = fit.val_loss(), model.losses(texts)
        trim()
        changed = perplexity_change(tried[strength][1], tried[0.0][1])
        work.progress(
            f"tuned_llm: strength {strength}, val loss {tried[strength][0]:.3f}, "
            f"perplexity of general text {changed:+.1%}"
        )
    before = tried[0.0]
    allowed = {
        strength: loss
        for strength, (loss, guard) in tried.items()
        if perplexity_change(guard, before[1]) <= recipe.max_guard_loss
    }
    known = not np.isnan(before[0])  # no val chat: the strongest that the guard allows
    chosen = min(allowed, key=lambda s: (allowed[s], s)) if known else max(allowed)
    return {
        "strength": chosen,
        "val_loss_base": before[0],
        "val_loss": tried[chosen][0],
        "guard_perplexity_base": float(np.exp(before[1].mean())),
        "guard_change": perplexity_change(tried[chosen][1], before[1]),
    }


def _scale(model: Any, strength: float, for_good: bool = False) -> None:
    """Apply a share of the adapter: by its scaling, or for good in its weights."""
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [one for one in model.modules() if isinstance(one, LoraLayer)]
    for layer in layers:
        for name, part in layer.lora_B.items():
            if for_good:
                part.weight.data.mul_(strength)
            layer.set_scale(name, 1.0 if for_good else strength)


def require_same_base(adapter: Path, weights: Weights) -> None:
    """Raise RagftError where an adapter was trained over other base weights."""
    known = json.loads((adapter / BASE_FILE).read_text(encoding="utf-8"))
    if known["digest"] != weights.digest:
        raise RagftError(
            f"tuned_llm: the adapter is of {known['model']!r}, and {weights.name!r} is not the "
            "same model: materialize tuned_llm again"
        )
