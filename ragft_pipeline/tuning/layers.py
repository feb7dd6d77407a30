"""The layers of a transformer, lowest first: a copy with fewer, or a training of the upper ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def keep_layers(backbone: Any, number: int) -> None:
    """Keep the first layers of a transformer and drop the rest; 0 keeps all."""
    if not 0 < number < backbone.config.num_hidden_layers:
        return
    for module in backbone.modules():
        for name, child in module.named_children():
            if _are_layers(child, backbone):
                setattr(module, name, child[:number])
                backbone.config.num_hidden_layers = number
                return


def freeze_layers(backbone: Any, share: float) -> None:
    """Leave the lowest share of a transformer's layers, and what lies below, as they are.

    The topmost layer is always trained. A backward pass ends where nothing below is trained, so
    half of the layers take two thirds of the time (compare Lee et al. 2019, who find that the upper
    layers alone learn most of a task). A model that is no transformer is left whole.
    """
    modules = () if backbone is None else backbone.modules()
    layers = next((child for child in modules if _are_layers(child, backbone)), None)
    if layers is None or not (number := min(int(share * len(layers)), len(layers) - 1)):
        return
    first_trained = next(layers[number].parameters())
    for parameter in backbone.parameters():  # in the order of the model's definition
        if parameter is first_trained:
            return
        parameter.requires_grad_(False)


def _are_layers(module: torch.nn.Module, backbone: Any) -> bool:
    import torch

    total = getattr(backbone.config, "num_hidden_layers", None)
    return isinstance(module, torch.nn.ModuleList) and len(module) == total
