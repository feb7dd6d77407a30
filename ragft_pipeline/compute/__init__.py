"""The same map on one machine or on Ray."""

from ragft_pipeline.compute.mapping import BatchMap, Mapped, RowFunction, map_here, open_map

__all__ = ["BatchMap", "Mapped", "RowFunction", "map_here", "open_map"]
