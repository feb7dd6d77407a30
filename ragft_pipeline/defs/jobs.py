"""The job that brings one corpus version up to date, and the loggers it writes to."""

from __future__ import annotations

import logging

import dagster as dg

from ragft_pipeline.defs.display import ToDisplay
from ragft_pipeline.defs.executor import chosen_executor
from ragft_pipeline.defs.partitions import corpus_versions
from ragft_pipeline.settings import load_settings

JOB_NAME = "corpus_version_job"
ANSWERING_JOB_NAME = "answering_job"
EXECUTOR = chosen_executor(load_settings())


@dg.logger({}, description="What a run logs, for the display of the process that runs it.")
def progress_logger(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Return a logger that hands all records to the display, where there is one."""
    logger = logging.Logger("ragft.progress", logging.DEBUG)
    logger.addHandler(ToDisplay())
    return logger


corpus_version_job = dg.define_asset_job(
    JOB_NAME,
    selection=dg.AssetSelection.all(),
    partitions_def=corpus_versions,
    description="Everything for one corpus version; what is fresh is reused.",
    executor_def=EXECUTOR,
)

answering_job = dg.define_asset_job(
    ANSWERING_JOB_NAME,
    selection=dg.AssetSelection.groups("answering"),
    partitions_def=corpus_versions,
    description="The answering model alone: its chats, its tuning, its evaluation.",
    executor_def=EXECUTOR,
)


def whole_job() -> dg.JobDefinition:
    """Return the job of one corpus version; a step's process on another machine makes it anew."""
    from ragft_pipeline.definitions import defs

    return defs.resolve_job_def(JOB_NAME)
