"""Keeping up with the documents: new versions, what they make stale, retraining, failures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import dagster as dg

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.corpus.sources import open_source
from ragft_pipeline.corpus.watching import Watch, listing_digest
from ragft_pipeline.defs.conditions import SYNC_TAG
from ragft_pipeline.defs.names import partitions_of
from ragft_pipeline.errors import RagftError, one_line
from ragft_pipeline.instance import BoundCorpus
from ragft_pipeline.labelling.hold import being_judged
from ragft_pipeline.questions.intake import log_stamps, take_in
from ragft_pipeline.store import ArtifactStore


@dataclass(frozen=True)
class Automation:
    """What makes a corpus follow its documents by itself."""

    sensors: list[dg.SensorDefinition] = field(default_factory=list)
    schedules: list[dg.ScheduleDefinition] = field(default_factory=list)


def build_automation(
    corpus: BoundCorpus, assets: Sequence[dg.AssetsDefinition], job: dg.UnresolvedAssetJobDefinition
) -> Automation:
    """Return the sensors and the schedule of a corpus, none where its automation is off."""
    if not corpus.automation:
        return Automation()
    keep_up_to_date = dg.AutomationConditionSensorDefinition(
        corpus.named("keep_up_to_date"),
        target=dg.AssetSelection.assets(*(asset.key for asset in assets)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=15,
        use_user_code_server=True,
        run_tags=SYNC_TAG,
    )
    failures = _report_failures(corpus, frozenset(asset.node_def.name for asset in assets))
    sensors = [_new_documents(corpus), _new_questions(corpus), keep_up_to_date, failures]
    return Automation(sensors, [_refresh_current(corpus, job)])


def _new_documents(corpus: BoundCorpus) -> dg.SensorDefinition:
    @dg.sensor(
        name=corpus.named("new_documents"),
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sees new, changed and deleted documents, freezes them as a version once the "
        "folder has come to rest, and only then adds the partition; "
        f"`{corpus.named('keep_up_to_date')}` does the rest.",
    )
    def new_documents(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        settings = corpus.settings
        if being_judged(ArtifactStore(settings.store)):
            return dg.SkipReason("people are judging questions: frozen when they are done")
        try:
            listing = listing_digest(open_source(settings.corpus), settings.corpus)
            watch = Watch.from_cursor(context.cursor)
            watch, ripe = watch.see(listing, time.time(), settings.automation.debounce_seconds)
            if not ripe:
                context.update_cursor(watch.to_cursor())
                return dg.SkipReason("the corpus folder has not changed, or is still changing")
            snapshots = SnapshotStore(ArtifactStore(settings.store))
            snapshot = snapshots.freeze(settings, context.log.info)
        except RagftError as error:
            return dg.SkipReason(str(error))
        return dg.SensorResult(
            cursor=watch.froze().to_cursor(),
            dynamic_partitions_requests=[
                partitions_of(corpus).build_add_request([snapshot.version])
            ],
        )

    return new_documents


def _new_questions(corpus: BoundCorpus) -> dg.SensorDefinition:
    @dg.sensor(
        name=corpus.named("new_questions"),
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Takes logs and votes in once enough of their questions are new; "
        f"`{corpus.named('keep_up_to_date')}` trains what that makes stale.",
    )
    def new_questions(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        settings = corpus.settings
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

    return new_questions


def _refresh_current(
    corpus: BoundCorpus, job: dg.UnresolvedAssetJobDefinition
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=corpus.named("refresh_current"),
        job=job,
        cron_schedule=corpus.settings.automation.refresh_cron,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Takes logs and votes in and brings the current version up to date on a "
        "clock; what is fresh is reused.",
    )
    def refresh_current(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        settings = corpus.settings
        try:
            take_in(settings, context.log.info)
        except (RagftError, OSError) as error:  # the documents are brought up to date all the same
            context.log.warning(one_line(error))
        current = SnapshotStore(ArtifactStore(settings.store)).current()
        if current is None:
            return dg.SkipReason("no corpus version yet")
        return dg.RunRequest(partition_key=current.version, tags={"ragft/trigger": "schedule"})

    return refresh_current


def _report_failures(corpus: BoundCorpus, steps: frozenset[str]) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name=corpus.named("report_failures"),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Logs which assets of which version failed, and why.",
    )
    def report_failures(context: dg.RunFailureSensorContext) -> None:
        version = context.dagster_run.tags.get("dagster/partition", "?")
        for event in context.get_step_failure_events():
            if event.step_key not in steps:  # of the host's own
                continue
            failure = event.step_failure_data
            data = failure.user_failure_data
            reason = data.description if data else failure.error_display_string.splitlines()[0]
            context.log.error(f"{event.step_key} failed for {version}: {reason}")

    return report_failures
