"""What a device is given: what is there, as much as it holds, and one card of several."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ragft_pipeline.errors import RagftError
from ragft_pipeline.models import devices, number_types
from ragft_pipeline.models.devices import pick_device, texts_at_once, tokens_kept
from ragft_pipeline.models.number_types import faster_dtype
from ragft_pipeline.settings import ComputeSettings
from ragft_pipeline.tuning.training import on_one_device

CPU = ComputeSettings(device="cpu")


def card(monkeypatch: pytest.MonkeyPatch, gib: float, bfloat16: bool = True) -> None:
    """Let torch say that there is a card; nothing is computed on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "memory_gib", lambda device: gib)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)


def test_a_cpu_takes_as_many_texts_as_it_always_did() -> None:
    assert texts_at_once(CPU, 256) == texts_at_once(CPU, 8192) == 32


def test_a_step_on_a_cpu_keeps_about_a_gigabyte_of_activations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    minilm = SimpleNamespace(config=SimpleNamespace(hidden_size=384, num_hidden_layers=6))
    assert texts_at_once(CPU, 8192, kept=True) == 16
    assert 3000 < tokens_kept(CPU, minilm) < 5000  # 32 passages of 128 tokens are 4096
    assert tokens_kept(CPU, None) < tokens_kept(CPU, minilm)  # not known: a large one
    card(monkeypatch, 80)
    auto = ComputeSettings()
    assert tokens_kept(auto, minilm) > 10**9


def test_a_card_takes_what_its_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (
        SimpleNamespace(config=SimpleNamespace(hidden_size=width, num_hidden_layers=layers))
        for width, layers in ((384, 6), (1024, 24))
    )
    auto = ComputeSettings()
    sizes = []
    for gib in (2, 8, 80):
        card(monkeypatch, gib)
        sizes.append([texts_at_once(auto, 256, model) for model in (small, large)])
    assert sizes == [[34, 12], [136, 51], [512, 512]]
    assert texts_at_once(auto, 8192, small) == 16  # of long texts fewer
    kept = [texts_at_once(auto, 128, model, kept=True) for model in (small, large)]
    assert kept == [728, 68]  # where every layer's states stay, the depth counts
    assert texts_at_once(auto, 256) == texts_at_once(auto, 256, large)  # not known: a large one
    assert texts_at_once(auto, 10**9, small) == 1


def test_the_settings_fix_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, 80)
    assert texts_at_once(ComputeSettings(batch_size=7), 256, kept=True) == 7


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(RagftError, match=r"compute\.device = cuda: .* finds none here"):
        pick_device(ComputeSettings(device="cuda"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_card_without_bfloat16_trains_in_float32(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = ComputeSettings.model_validate({"dtype": dtype})
    card(monkeypatch, 16, bfloat16=False)
    assert faster_dtype(compute) == torch.float32
    card(monkeypatch, 16)
    assert faster_dtype(compute) == torch.bfloat16


def test_a_cpu_trains_in_what_it_multiplies_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    for faster, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(number_types, "_cpu_is_faster_in_bfloat16", lambda own=faster: own)
        assert faster_dtype(CPU) == dtype


def test_a_trainer_does_not_spread_a_step_over_all_cards(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    arguments = TrainingArguments(str(tmp_path), per_device_train_batch_size=8, use_cpu=True)
    arguments._n_gpu = 4  # as on a machine with four
    assert arguments.train_batch_size == 32
    assert on_one_device(arguments).train_batch_size == 8
