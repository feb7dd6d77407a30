"""`ragft_pipeline.Corpus`: a corpus in a Dagster deployment."""

from __future__ import annotations

import dagster as dg

from ragft_pipeline.instance import BoundCorpus


class Corpus(BoundCorpus):
    """A corpus in a Dagster deployment; what it is made of: see `BoundCorpus`."""

    def definitions(self) -> dg.Definitions:
        """Return its assets, checks, jobs, sensors and schedule, to merge with any others."""
        from ragft_pipeline.defs.building import build_definitions

        return build_definitions(self)
