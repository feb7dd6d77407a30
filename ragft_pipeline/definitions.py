"""A code location that holds one corpus, the one of the working directory (workspace.yaml)."""

from __future__ import annotations

import dagster as dg

from ragft_pipeline.defs.building import alone
from ragft_pipeline.instance import BoundCorpus


@dg.definitions
def defs() -> dg.Definitions:
    """Return its definitions, made when Dagster loads them."""
    return alone(BoundCorpus.here())
