from __future__ import annotations

import pytest
import torch
from torch.backends import cuda
from torch.nn.functional import scaled_dot_product_attention

from ragft_pipeline.models import number_types
from ragft_pipeline.settings import ComputeSettings


def test_attention_in_training_is_that_of_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_types, "faster_dtype", lambda compute: torch.bfloat16)
    torch.manual_seed(5)
    inputs = [torch.randn(2, 4, 24, 8).bfloat16().requires_grad_() for _ in range(3)]
    mask = torch.arange(24)[None, None, None, :] < torch.tensor([24, 17])[:, None, None, None]
    before = cuda.fp16_bf16_reduction_math_sdp_allowed()

    def gradients() -> list[torch.Tensor]:
        loss = scaled_dot_product_attention(*inputs, attn_mask=mask).float().square().sum()
        return [gradient.float() for gradient in torch.autograd.grad(loss, inputs)]

    fused = gradients()
    with number_types.attention_in_training(ComputeSettings(device="cpu")):
        assert cuda.fp16_bf16_reduction_math_sdp_allowed()
        plain = gradients()
    assert cuda.fp16_bf16_reduction_math_sdp_allowed() == before
    for one, other in zip(fused, plain):
        assert float((one - other).norm() / one.norm()) < 0.03
