"""The jobs that bring one corpus version up to date, and the logger that `ragft run` shows."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import dagster as dg

from ragft_pipeline.defs.assets import ANSWERING, ASSETS
from ragft_pipeline.defs.display import ToDisplay
from ragft_pipeline.defs.executor import chosen_executor
from ragft_pipeline.defs.names import asset_key, partitions_of
from ragft_pipeline.instance import BoundCorpus


@dg.logger({}, description="What a run logs, for the display of the process that runs it.")
def progress_logger(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Return a logger that hands all records to the display, where there is one."""
    logger = logging.Logger("ragft.progress", logging.DEBUG)
    logger.addHandler(ToDisplay())
    return logger


def version_job(corpus: BoundCorpus) -> str:
    """Return the name of the job that makes all of a version."""
    return corpus.named("version_job")


def build_jobs(
    corpus: BoundCorpus, keys: Sequence[dg.AssetKey]
) -> list[dg.UnresolvedAssetJobDefinition]:
    """Return the job of all assets and, where it is installed, that of the answering model."""
    executor = chosen_executor(corpus)
    answering = [asset_key(corpus, s.recipe.name) for s in ASSETS if s.group == ANSWERING]
    whole = dg.define_asset_job(
        version_job(corpus),
        selection=dg.AssetSelection.assets(*keys),
        partitions_def=partitions_of(corpus),
        description="Everything for one corpus version; what is fresh is reused.",
        executor_def=executor,
    )
    if not answering:
        return [whole]
    alone = dg.define_asset_job(
        corpus.named("answering_job"),
        selection=dg.AssetSelection.assets(*answering),
        partitions_def=partitions_of(corpus),
        description="The answering model alone: its chats, its tuning, its evaluation.",
        executor_def=executor,
    )
    return [whole, alone]
