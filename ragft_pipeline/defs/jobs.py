"""The job that brings one corpus version up to date, and the loggers it writes to."""

from __future__ import annotations

import logging
import sys

import dagster as dg

from ragft_pipeline.defs.partitions import corpus_versions

JOB_NAME = "corpus_version_job"
ANSWERING_JOB_NAME = "answering_job"


@dg.logger({}, description="Progress lines for a terminal, without Dagster's own events.")
def progress_logger(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Return a logger that prints what assets report and nothing else."""
    logger = logging.Logger("ragft.progress", logging.INFO)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_OwnWords())
    handler.addFilter(lambda record: _meta(record).get("dagster_event") is None)
    logger.addHandler(handler)
    return logger


class _OwnWords(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return str(_meta(record).get("orig_message", record.getMessage()))


def _meta(record: logging.LogRecord) -> dict[str, object]:
    return getattr(record, "dagster_meta", {}) or {}


corpus_version_job = dg.define_asset_job(
    JOB_NAME,
    selection=dg.AssetSelection.all(),
    partitions_def=corpus_versions,
    description="Everything for one corpus version; what is fresh is reused.",
    executor_def=dg.in_process_executor,
)

answering_job = dg.define_asset_job(
    ANSWERING_JOB_NAME,
    selection=dg.AssetSelection.groups("answering"),
    partitions_def=corpus_versions,
    description="The answering model alone: its chats, its tuning, its evaluation.",
    executor_def=dg.in_process_executor,
)
