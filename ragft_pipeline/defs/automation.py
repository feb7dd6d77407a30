"""Keeping up with the documents: new versions, what they make stale, retraining, failures."""

import time

import dagster as dg

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.corpus.sources import open_source
from ragft_pipeline.corpus.watching import Watch, listing_digest
from ragft_pipeline.defs.conditions import SYNC_TAG
from ragft_pipeline.defs.jobs import corpus_version_job
from ragft_pipeline.defs.partitions import corpus_versions
from ragft_pipeline.errors import RagftError, one_line
from ragft_pipeline.labelling.hold import being_judged
from ragft_pipeline.questions.intake import log_stamps, take_in
from ragft_pipeline.settings import load_settings
from ragft_pipeline.store import ArtifactStore


@dg.sensor(
    name="new_documents",
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sees new, changed and deleted documents, freezes them as a version once the "
    "folder has come to rest, and only then adds the partition; `keep_up_to_date` does the rest.",
)
def new_documents(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Freeze the corpus folder when its content has changed."""
    settings = load_settings()
    if being_judged(ArtifactStore(settings.store)):
        return dg.SkipReason("people are judging questions: frozen when they are done")
    try:
        listing = listing_digest(open_source(settings.corpus), settings.corpus)
        watch = Watch.from_cursor(context.cursor)
        watch, ripe = watch.see(listing, time.time(), settings.automation.debounce_seconds)
        if not ripe:
            context.update_cursor(watch.to_cursor())
            return dg.SkipReason("the corpus folder has not changed, or is still changing")
        snapshot = SnapshotStore(ArtifactStore(settings.store)).freeze(settings, context.log.info)
    except RagftError as error:
        return dg.SkipReason(str(error))
    return dg.SensorResult(
        cursor=watch.froze().to_cursor(),
        dynamic_partitions_requests=[corpus_versions.build_add_request([snapshot.version])],
    )


@dg.sensor(
    name="new_questions",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Takes logs and votes in once enough of their questions are new; "
    "`keep_up_to_date` trains what that makes stale.",
)
def new_questions(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Take in what people asked."""
    settings = load_settings()
    try:
        watch = Watch.from_cursor(context.cursor)
        stamps = log_stamps(settings)
        watch, ripe = watch.see(stamps, time.time(), settings.automation.debounce_seconds)
        if not ripe:
            context.update_cursor(watch.to_cursor())
            return dg.SkipReason("no log has changed, or one is still changing")
        found = take_in(settings, context.log.info, settings.automation.new_questions)
    except (RagftError, OSError) as error:
        return dg.SkipReason(one_line(error))
    context.update_cursor(watch.froze().to_cursor())
    return dg.SkipReason(f"{len(found.questions)} questions are in force")


keep_up_to_date = dg.AutomationConditionSensorDefinition(
    "keep_up_to_date",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    use_user_code_server=True,
    run_tags=SYNC_TAG,
)


@dg.schedule(
    name="refresh_current",
    job=corpus_version_job,
    cron_schedule=load_settings().automation.refresh_cron,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Takes logs and votes in and brings the current version up to date on a clock; "
    "what is fresh is reused.",
)
def refresh_current(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Request a run of the current version."""
    settings = load_settings()
    try:
        take_in(settings, context.log.info)
    except (RagftError, OSError) as error:  # the documents are brought up to date all the same
        context.log.warning(one_line(error))
    current = SnapshotStore(ArtifactStore(settings.store)).current()
    if current is None:
        return dg.SkipReason("no corpus version yet")
    return dg.RunRequest(partition_key=current.version, tags={"ragft/trigger": "schedule"})


@dg.run_failure_sensor(name="report_failures", default_status=dg.DefaultSensorStatus.RUNNING)
def report_failures(context: dg.RunFailureSensorContext) -> None:
    """Log which assets of which version failed, and why."""
    version = context.dagster_run.tags.get("dagster/partition", "?")
    for event in context.get_step_failure_events():
        failure = event.step_failure_data
        data = failure.user_failure_data
        reason = data.description if data else failure.error_display_string.splitlines()[0]
        context.log.error(f"{event.step_key} failed for {version}: {reason}")
