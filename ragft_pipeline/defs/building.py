"""A corpus's definitions: what a host merges with its own."""

from __future__ import annotations

import dagster as dg

from ragft_pipeline.defs.assets import ASSETS
from ragft_pipeline.defs.automation import build_automation
from ragft_pipeline.defs.executor import chosen_executor
from ragft_pipeline.defs.jobs import build_jobs, progress_logger
from ragft_pipeline.defs.policy import build_asset
from ragft_pipeline.defs.status_table import build_status
from ragft_pipeline.instance import BoundCorpus


def build_definitions(corpus: BoundCorpus) -> dg.Definitions:
    """Return its assets, jobs, sensors and schedule; executor and loggers stay the host's."""
    assets = [build_asset(corpus, shown) for shown in ASSETS]
    jobs = build_jobs(corpus, [asset.key for asset in assets])
    status, follow_status = build_status(corpus)
    automation = build_automation(corpus, assets, jobs[0])
    return dg.Definitions(
        assets=[*assets, status],
        jobs=jobs,
        sensors=[*automation.sensors, follow_status],
        schedules=automation.schedules,
    )


def alone(corpus: BoundCorpus) -> dg.Definitions:
    """Return the definitions of a code location that holds nothing but a corpus."""
    of_the_process = dg.Definitions(
        executor=chosen_executor(corpus),
        loggers={"console": dg.colored_console_logger, "progress": progress_logger},
    )
    return dg.Definitions.merge(build_definitions(corpus), of_the_process)
