"""The map on Ray: Ray Data over Arrow blocks, with a pool of actors that load the model once.

Units go out through the object store and rows come back through it, so only this process touches
the artifact store. Ray starts a lost actor anew, elsewhere if need be, and gives it the lost blocks
again. What the actor raises comes back as a value: Ray would wrap it in its own.
"""

from __future__ import annotations

import math
import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from ragft_pipeline.compute.mapping import Mapped, RowFunction, batches, map_here
from ragft_pipeline.compute.ray_cluster import connect, free_slots
from ragft_pipeline.errors import RagftError, TransientError, one_line
from ragft_pipeline.settings import RaySettings

_BLOCKS_AN_ACTOR = 4  # at least, so that a slow one does not hold up the end
_UNITS = pa.schema([("unit", pa.large_binary())])
_REPLY = pa.schema(
    [
        ("units", pa.int64()), ("rows", pa.large_binary()), ("kind", pa.string()),
        ("error", pa.string()),
    ]
)  # fmt: skip
_ERRORS = {error.__name__: error for error in (RagftError, TransientError)}


class RayMap:
    """A `BatchMap` on a Ray cluster; what does not travel or does not pay is mapped here."""

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings

    def __call__(
        self, compute: Callable[[Sequence[Any]], pa.Table], units: Sequence[Any], batch_size: int
    ) -> Iterator[Mapped]:
        """Yield the batches in the order in which they are done.

        Raises what `compute` raised, and TransientError where Ray gives up.
        """
        if isinstance(compute, RowFunction) and self._pays(compute, units):
            ray = connect(self._settings)
            actors = self._settings.actors or free_slots(ray, self._settings)
            if actors:
                yield from self._map(ray, compute, units, batch_size, actors)
                return
        yield from map_here(compute, units, batch_size)

    def _pays(self, compute: RowFunction[Any], units: Sequence[Any]) -> bool:
        return bool(units) and len(units) * compute.seconds >= self._settings.min_seconds

    def _map(
        self,
        ray: Any,
        compute: RowFunction[Any],
        units: Sequence[Any],
        batch_size: int,
        actors: int,
    ) -> Iterator[Mapped]:
        size = min(batch_size, math.ceil(len(units) / (actors * _BLOCKS_AN_ACTOR)))
        blocks = [ray.put(_packed(batch)) for batch in batches(units, size)]
        ray.data.DataContext.get_current().enable_progress_bars = False
        replies = (
            ray.data.from_arrow_refs(blocks)
            .map_batches(
                _Actor,
                fn_constructor_args=(compute,),
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(
                    min_size=1,
                    max_size=min(actors, len(blocks)),
                    initial_size=min(actors, len(blocks)),
                    max_tasks_in_flight_per_actor=2,
                ),
                num_cpus=self._settings.cpus,
                num_gpus=self._settings.gpus or None,
            )
            .iter_batches(batch_size=None, batch_format="pyarrow")
        )
        try:
            for table in replies:
                yield from map(_unpacked, table.to_pylist())
        except ray.exceptions.RayError as error:
            raise TransientError(f"compute: Ray gave up: {one_line(error)}") from error


class _Actor:
    """Holds a row function, and with it the loaded model, in a process of the cluster."""

    def __init__(self, compute: RowFunction[Any]) -> None:
        self._compute = compute

    def __call__(self, block: pa.Table) -> pa.Table:
        # as Ray itself sends what it is given: between processes of one run, nothing from outside
        units = [pickle.loads(value) for value in block.column("unit").to_pylist()]
        reply: dict[str, Any] = {"units": len(units)}
        try:
            reply["rows"] = _written(self._compute(units))
        except RagftError as error:
            reply |= {"kind": type(error).__name__, "error": str(error)}
        except Exception as error:  # its type may not be importable where the run is
            told = "".join(traceback.format_exception(error))
            reply |= {"kind": RuntimeError.__name__, "error": told}
        return pa.Table.from_pylist([reply], schema=_REPLY)


def _packed(units: Sequence[Any]) -> pa.Table:
    return pa.table({"unit": [pickle.dumps(unit) for unit in units]}, schema=_UNITS)


def _unpacked(reply: dict[str, Any]) -> Mapped:
    if reply["error"] is not None:
        raise _ERRORS.get(reply["kind"], RuntimeError)(reply["error"])
    with pa.ipc.open_stream(reply["rows"]) as stream:
        return Mapped(reply["units"], stream.read_all())


def _written(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()
