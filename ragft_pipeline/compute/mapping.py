"""Mapping units to rows, a batch at a time: what is mapped, and who runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import pyarrow as pa

Unit = TypeVar("Unit")


class RowFunction(ABC, Generic[Unit]):
    """Rows of a batch of units, here or on another machine.

    What pickles is settings, names and folders of models. A model is loaded at the first call,
    once for all batches of a process. Units are plain values that pickle too.

    Attributes:
        seconds: about how long a unit takes on one core; decides whether other machines are worth
            their start.
    """

    seconds: ClassVar[float] = 0.01

    @abstractmethod
    def __call__(self, units: Sequence[Unit]) -> pa.Table:
        """Return the rows of the units; a unit may have none. Raises RagftError."""


@dataclass(frozen=True)
class Mapped:
    """A finished batch: how many units it had, and their rows."""

    units: int
    rows: pa.Table


class BatchMap(Protocol):
    """Maps units in batches and yields each batch when it is done, in any order."""

    def __call__(
        self, compute: Callable[[Sequence[Any]], pa.Table], units: Sequence[Any], batch_size: int
    ) -> Iterator[Mapped]:
        """Yield the batches; an error of `compute` comes out as it is."""
        ...


def map_here(
    compute: Callable[[Sequence[Any]], pa.Table], units: Sequence[Any], batch_size: int
) -> Iterator[Mapped]:
    """Map in this process, batch after batch."""
    for batch in batches(units, batch_size):
        yield Mapped(len(batch), compute(batch))


def batches(units: Sequence[Unit], size: int) -> Iterator[Sequence[Unit]]:
    """Yield the units, at most `size` at a time."""
    for start in range(0, len(units), size):
        yield units[start : start + size]
