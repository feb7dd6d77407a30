"""A training in this process, or in several that are one torch process group.

In a group every process takes the same steps with the same weights; it computes its share of a
step, and the shares are added up (`share`, `add_up`), so that a step learns what it would have
learnt in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar

from ragft_pipeline.errors import RagftError

if TYPE_CHECKING:
    import torch

Result_co = TypeVar("Result_co", covariant=True)
Report = Callable[[str], None]


class Training(Protocol[Result_co]):
    """What trains: it pickles, as settings, texts, arrays and folders do."""

    def __call__(self, report: Report) -> Result_co:
        """Train and return what was made; the same in every process of a group."""
        ...


def share() -> tuple[int, int]:
    """Return this process's place in the group and the group's size: (0, 1) without one."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def add_up(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of the group's tensors, which takes this one's place."""
    import torch

    if share()[1] > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def require_agreement(number: int, what: str) -> None:
    """Raise RagftError where processes of the group differ in a number, such as of steps taken."""
    import torch

    place, size = share()
    if size == 1:
        return
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    numbers = torch.zeros(size, dtype=torch.int64, device=device)
    numbers[place] = number
    if len(set(add_up(numbers).tolist())) > 1:
        raise RagftError(f"{what} is not the same for all trainers: they need a folder in common")


def add_up_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of the group; one that no process has stays absent."""
    import torch

    if share()[1] == 1:
        return
    trained = list(parameters)
    device = trained[0].device
    known = add_up(torch.tensor([float(p.grad is not None) for p in trained], device=device))
    for parameter, processes in zip(trained, known.tolist()):
        if processes:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            add_up(parameter.grad)
