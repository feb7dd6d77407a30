from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from llama_index.core.llms import ChatMessage

from ragft_pipeline import schemas
from ragft_pipeline.answering import fitting
from ragft_pipeline.answering.answerers import LocalAnswerer
from ragft_pipeline.answering.guard import guard_texts, perplexity_change
from ragft_pipeline.answering.plan import plan_training
from ragft_pipeline.answering.prompts import passages_chat, quoted
from ragft_pipeline.answering.tuning import BASE_FILE, MERGED_FOLDER, tune_language_model
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.weights import require_language_model, resolve_weights
from ragft_pipeline.settings import (
    ComputeSettings,
    Settings,
    TunedLLMSettings,
    parse_settings,
)
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline_tests.short_model import NAME, short_language_model

DECLINE = "The passages do not say."
FACTS = ("The pump runs at night.", "Keys hang by the door.", "Call the desk first.", "Use oil.")
RECIPE = """
tuned_llm:
  model: {model}
  budget: {{minutes: 0, steps: {steps}}}
  batch_size: 2
  evaluations: 1
  val_chats: 1
  rank: 4
  strengths: [1.0]
  max_guard_loss: 1.0
  merged: {merged}
"""


@pytest.fixture(autouse=True)
def short_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragft_pipeline.answering.tuning.guard_texts", lambda half: ["Tea is hot."])


def settings(steps: int = 3, merged: bool = False, whole: bool = False) -> Settings:
    """Return settings of a short training, of the model's first layers or of the whole of it."""
    model = NAME if whole else short_language_model()
    return parse_settings(RECIPE.format(model=model, steps=steps, merged=str(merged).lower()))


def chats(number: int = 8) -> pa.Table:
    rows = []
    for place in range(number):
        fact = FACTS[place % len(FACTS)]
        messages = passages_chat(f"fact {place}?", [fact, "Other."], DECLINE)
        rows.append(
            {
                "chat_id": f"{place:032x}", "kind": "claim", "question_id": str(place),
                "node_id": "n", "doc_key": "d", "cluster": "c", "passages": ["n", "m"],
                "source": 1,
                "messages": [*messages, {"role": "assistant", "content": quoted(fact, 1)}],
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schemas.CHATS.schema)


def workspace(folder: Path, name: str) -> Workspace:
    made = folder / name
    made.mkdir(parents=True)
    return Workspace(ArtifactStore(folder / "store"), "tuned_llm", made)


def test_a_killed_training_goes_on_and_takes_as_many_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tune_language_model(chats(), chats(2), settings(), workspace(tmp_path / "a", "whole"))
    monkeypatch.setattr(fitting, "_SECONDS", 0.0)
    clock = fitting._clock

    def killed_at_2(*arguments: Any) -> Any:
        made = clock(*arguments)
        on_save = made.on_save

        def save(args: Any, state: Any, control: Any, **more: Any) -> None:
            on_save(args, state, control, **more)
            if state.global_step == 2:
                raise KeyboardInterrupt

        made.on_save = save
        return made

    monkeypatch.setattr(fitting, "_clock", killed_at_2)
    with pytest.raises(KeyboardInterrupt):
        tune_language_model(chats(), chats(2), settings(), workspace(tmp_path / "b", "killed"))
    monkeypatch.setattr(fitting, "_clock", clock)
    lines: list[str] = []
    work = workspace(tmp_path / "b", "resumed")
    work.progress = lines.append
    resumed = tune_language_model(chats(), chats(2), settings(), work)
    assert "tuned_llm: going on from checkpoint-2" in lines
    assert resumed["steps"] == whole["steps"] == 3
    assert resumed["val_loss"] == pytest.approx(whole["val_loss"], abs=0.02)
    left = list((tmp_path / "b" / "store" / "staging" / "training").iterdir())
    assert left == []


def test_packed_chats_are_the_same_training(tmp_path: Path) -> None:
    """No chat sees the one before it in the row, and each position is its own."""
    found = []
    for packing in (False, True):
        recipe = settings().tuned_llm.model_copy(
            update={"packing": packing, "micro_batch_size": 2, "learning_rate": 1e-3}
        )
        fit = fitting.fit_adapter(
            chats(), chats(4), resolve_weights(recipe.model), tmp_path / str(packing),
            recipe, ComputeSettings(device="cpu"), lambda line: None,
        )  # fmt: skip
        found.append((fit.steps, fit.train_loss, fit.val_loss()))
    assert found[1] == pytest.approx(found[0], rel=0.01)


def test_half_a_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    for step, whole in ((2, True), (10, True), (12, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / "complete.json").write_text("{}", encoding="utf-8")
    found = fitting._last_complete(tmp_path)
    assert found is not None
    assert found.name == "checkpoint-10"
    assert not (tmp_path / "checkpoint-12").exists()


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_adapter_and_the_merged_model_load_and_answer(tmp_path: Path, whole: bool) -> None:
    from llama_index.llms.huggingface import HuggingFaceLLM

    work = workspace(tmp_path, "model")
    facts = tune_language_model(chats(), chats(2), settings(4, True, whole), work)
    assert facts["val_loss"] < facts["val_loss_base"]
    assert facts["strength"] == 1.0
    files = {path.name for path in work.model.rglob("*") if path.is_file()}
    assert {"adapter_model.safetensors", BASE_FILE, "model.safetensors"} <= files
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    asked = passages_chat("fact 0?", ["The pump runs at night.", "Other."], DECLINE)
    (reply,) = LocalAnswerer(settings(whole=whole), work.model, "float32").answer([asked])
    llm = HuggingFaceLLM(
        model_name=str(work.model / MERGED_FOLDER),
        tokenizer_name=str(work.model / MERGED_FOLDER),
        device_map="cpu",
        max_new_tokens=64,
        is_chat_model=True,
        generate_kwargs={"do_sample": False},
    )
    merged = llm.chat([ChatMessage(**message) for message in asked]).message.content
    assert merged == reply.text


def test_frozen_matrices_are_stored_as_they_are_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(fitting, "faster_dtype", lambda compute: torch.bfloat16)
    recipe, compute = settings().tuned_llm, settings().compute
    weights = require_language_model(resolve_weights(recipe.model))
    losses, kept = [], []
    for merged in (False, True):
        torch.manual_seed(0)
        one = recipe.model_copy(update={"merged": merged})
        tokenizer, model = fitting._base(weights, one, compute)
        inputs = tokenizer("The pump runs at night.", return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(float(model(**inputs, labels=inputs["input_ids"]).loss))
        kept.append({parameter.dtype for parameter in model.parameters()})
        assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert losses[0] == losses[1]
    assert kept == [{torch.float32, torch.bfloat16}, {torch.float32}]


def test_an_adapter_refuses_another_base(tmp_path: Path) -> None:
    work = workspace(tmp_path, "model")
    tune_language_model(chats(2), chats(1), settings(1), work)
    (work.model / BASE_FILE).write_text('{"model": "other", "digest": "0"}', encoding="utf-8")
    with pytest.raises(RagftError, match="the adapter is of 'other'"):
        LocalAnswerer(settings(), work.model).answer([[{"role": "user", "content": "x"}]])


def test_no_chat_is_a_clear_error(tmp_path: Path) -> None:
    none = chats(0)
    with pytest.raises(RagftError, match="no chat to train on"):
        tune_language_model(none, none, settings(), workspace(tmp_path, "model"))


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        ({"minutes": 0, "steps": 5}, 5),
        ({"minutes": 0, "tokens": 4000}, 10),
        ({"minutes": 1.0}, 16),  # 54 s at .007 s a token: 7 of evaluating, 2.8 a step
        ({"minutes": 0}, 20),  # the epochs
    ],
)
def test_a_plan_keeps_to_its_budget(tmp_path: Path, budget: dict[str, float], steps: int) -> None:
    recipe = TunedLLMSettings.model_validate(
        {"budget": budget, "batch_size": 4, "epochs": 2.0, "evaluations": 1}
    )
    plan = plan_training(tmp_path / "plan.json", recipe, [100] * 40, [100] * 25, lambda: 0.007)
    assert plan.steps == steps
    again = plan_training(tmp_path / "plan.json", recipe, [9] * 40, [], lambda: 1.0)
    assert again == plan


def test_the_guard_has_two_halves_of_other_text() -> None:
    choosing, reporting = guard_texts("choosing"), guard_texts("reporting")
    assert len(choosing) == len(reporting) == 12
    assert not set(choosing) & set(reporting)


def test_perplexity_change_is_a_share() -> None:
    import numpy as np

    before = np.log([10.0, 10.0])
    assert perplexity_change(before + np.log(1.05), before) == pytest.approx(0.05)
