"""The same work on one machine or on Ray: maps of rows, and trainings."""

from ragft_pipeline.compute.mapping import BatchMap, Mapped, RowFunction, map_here
from ragft_pipeline.compute.runner import open_map, run_training
from ragft_pipeline.compute.training import (
    Report,
    Training,
    add_up,
    add_up_gradients,
    require_agreement,
    share,
)

__all__ = [
    "BatchMap",
    "Mapped",
    "Report",
    "RowFunction",
    "Training",
    "add_up",
    "add_up_gradients",
    "map_here",
    "open_map",
    "require_agreement",
    "run_training",
    "share",
]
