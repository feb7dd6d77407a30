"""Large arrays that lie in a file without a name, so that the system may take their pages back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

_IN_MEMORY = 1 << 27  # bytes; what is smaller is an array as any other


def scratch_array(root: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return a float32 array to fill; a large one is mapped from a file on the store's disk.

    The file goes with the array, or with the process.

    Args:
        root: of the store, whose `staging` has room for what is large.
    """
    if 4 * int(np.prod(shape)) < _IN_MEMORY:
        return np.empty(shape, np.float32)
    folder = root / "staging"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.asarray(np.memmap(file, np.float32, "w+", shape=shape))
