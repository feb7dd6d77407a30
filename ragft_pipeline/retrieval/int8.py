"""A linear layer in 8-bit integers: each token's and each output's scale is its own.

With a scale for every token, a text's vector does not depend on the texts beside it.
"""

from __future__ import annotations

import torch

_STEP, _ZERO = 1 / 127, 128  # of activations in -1..1, unsigned as the integer kernels want them
_LEAST = 1e-12


class Int8Linear:
    """`states @ weight.T + bias`, both rounded to 8 bits; the products are summed in 32 bits."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._scale = weight.abs().amax(dim=1).clamp_min(_LEAST) / 127
        rounded = torch.round(weight / self._scale[:, None]).to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._zero = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = bias

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Return float32 of shape (tokens, outputs) for float32 of shape (tokens, inputs)."""
        high, low = states.amax(dim=1, keepdim=True), states.amin(dim=1, keepdim=True)
        size = torch.maximum(high, -low).clamp_min(_LEAST)
        rounded = torch.quantize_per_tensor(states / size, _STEP, _ZERO, torch.quint8).int_repr()
        product = torch.ops.onednn.qlinear_pointwise(
            rounded, _STEP, _ZERO, self._weight, self._scale, self._zero, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return torch.addcmul(self._bias, product, size, out=product)
