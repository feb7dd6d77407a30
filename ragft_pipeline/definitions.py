"""The one Definitions object: what `dagster dev` and workspace.yaml load."""

from __future__ import annotations

import dagster as dg

from ragft_pipeline.defs import assets, automation, jobs, status_table

defs = dg.Definitions(
    assets=[*dg.load_assets_from_modules([assets]), status_table.corpus_status],
    jobs=[jobs.corpus_version_job, jobs.answering_job],
    sensors=[
        automation.new_documents,
        automation.new_questions,
        automation.keep_up_to_date,
        automation.report_failures,
        status_table.follow_status,
    ],
    schedules=[automation.refresh_current],
    loggers={"console": dg.colored_console_logger, "progress": jobs.progress_logger},
    executor=jobs.EXECUTOR,
)
