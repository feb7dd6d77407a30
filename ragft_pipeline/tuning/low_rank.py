"""Low-rank updates of a model's linear layers (LoRA, Hu et al. 2021), merged when trained.

What is saved is a plain model: nothing beyond sentence-transformers loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def add_low_rank(model: SentenceTransformer, rank: int) -> None:
    """Freeze a model and give each linear layer a trainable update of `rank`, 0 at the start."""
    import torch
    from torch.nn.utils import parametrize

    class LowRank(torch.nn.Module):
        def __init__(self, height: int, width: int) -> None:
            super().__init__()
            self.down = torch.nn.Parameter(torch.randn(rank, width) / width**0.5)
            self.up = torch.nn.Parameter(torch.zeros(height, rank))

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight + self.up @ self.down

    model.requires_grad_(False)
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    for module in linear:
        update = LowRank(*module.weight.shape).to(module.weight.device)
        parametrize.register_parametrization(module, "weight", update)


def merge_low_rank(model: SentenceTransformer) -> None:
    """Put the updates into the weights; a model without any stays as it is."""
    from torch.nn.utils import parametrize

    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
