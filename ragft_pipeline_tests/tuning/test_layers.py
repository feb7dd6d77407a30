"""Which of a transformer's weights are left to train."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel, BertConfig, ModernBertConfig, PretrainedConfig, Qwen3Config

from ragft_pipeline.tuning.layers import freeze_layers

SMALL = {
    "vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 4,
    "intermediate_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "cls_token_id": 1, "sep_token_id": 2,
}  # fmt: skip
CONFIGS = (
    BertConfig(**SMALL),
    ModernBertConfig(**SMALL),
    Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=8),
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
@pytest.mark.parametrize(("share", "frozen"), [(0.0, 0), (0.2, 0), (0.5, 2), (0.99, 3)])
def test_the_lowest_share_and_the_word_vectors_are_frozen(
    config: PretrainedConfig, share: float, frozen: int
) -> None:
    model = AutoModel.from_config(config)
    freeze_layers(model, share)
    layers = next(part for part in model.modules() if isinstance(part, torch.nn.ModuleList))
    trained = [all(p.requires_grad for p in layer.parameters()) for layer in layers]
    assert trained == [number >= frozen for number in range(4)]
    assert [any(p.requires_grad for p in layer.parameters()) for layer in layers] == trained
    word_vectors = model.get_input_embeddings().weight
    assert word_vectors.requires_grad == (frozen == 0)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_what_is_trained_gets_gradients(config: PretrainedConfig) -> None:
    model = AutoModel.from_config(config)
    freeze_layers(model, 0.5)
    model(input_ids=torch.tensor([[1, 5, 7, 2]])).last_hidden_state.sum().backward()
    grads = {name: p.grad is not None for name, p in model.named_parameters()}
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    assert {n for n in grads if grads[n] != wanted[n] and "pooler" not in n} == set()


def test_what_is_no_transformer_is_left_whole() -> None:
    freeze_layers(None, 0.5)
