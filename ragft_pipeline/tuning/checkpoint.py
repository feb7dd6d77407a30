"""A checkpoint of an unfinished training, so that a killed one goes on where it was."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_SECONDS = 60.0


@dataclass
class Checkpoint:
    """The state of an unfinished training, where another process finds it after a kill."""

    path: Path
    _last: float = 0.0

    def restore(self, model: SentenceTransformer, optimiser: torch.optim.Optimizer) -> list[float]:
        """Bring both to where the last checkpoint was; return the losses so far, [] if none."""
        import torch

        self._last = time.monotonic()
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError):  # none, or a disk that lost part of it
            return []
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        return [float(loss) for loss in state["losses"]]

    def keep(
        self,
        model: SentenceTransformer,
        optimiser: torch.optim.Optimizer,
        losses: Sequence[float | torch.Tensor],
    ) -> None:
        """Write a checkpoint, unless the last one is recent."""
        import torch

        if time.monotonic() - self._last < _SECONDS:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".partial")
        state = {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "losses": [float(loss) for loss in losses],
        }
        torch.save(state, temporary)
        temporary.replace(self.path)
        self._last = time.monotonic()

    def discard(self) -> None:
        """Remove the checkpoint: the model it led to is saved."""
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()
