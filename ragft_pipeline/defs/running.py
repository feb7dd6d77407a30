"""Running the definitions outside the UI: one version in this process, and `dagster dev`."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.execution.api import execute_run
from dagster._core.storage.tags import PARTITION_NAME_TAG
from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.defs.dead_runs import end_dead_runs, holding
from ragft_pipeline.defs.display import Display
from ragft_pipeline.defs.executor import steps_on_ray
from ragft_pipeline.defs.jobs import JOB_NAME, whole_job
from ragft_pipeline.defs.partitions import PARTITIONS_NAME
from ragft_pipeline.defs.processes import run_with_all_it_starts
from ragft_pipeline.defs.status_table import current_status
from ragft_pipeline.errors import RagftError, one_line
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.remote import absolute
from ragft_pipeline.versions.shown import home_folder, note_shown

_INSTANCE_FILE = "dagster.yaml"


def dagster_home(settings: Settings) -> Path:
    """Return Dagster's home, made where it is the store's own."""
    home_path = home_folder(settings)
    if os.environ.get("DAGSTER_HOME"):
        return home_path
    home_path.mkdir(parents=True, exist_ok=True)
    source = Path(_INSTANCE_FILE)
    target = home_path / _INSTANCE_FILE
    if source.is_file():
        shutil.copyfile(source, target)
    elif not target.is_file():
        off = "".join(f"{name}:\n  enabled: false\n" for name in ("telemetry", "nux"))
        target.write_text(off, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home_path)
    return home_path


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open Dagster's instance, one process at a time.

    Two that make its databases at the same moment each write a revision into them, and with two
    revisions Dagster never opens them again.
    """
    home = dagster_home(settings)
    with FileLock(home / ".lock"):
        try:
            instance = dg.DagsterInstance.get()
        except (
            Exception
        ) as error:  # an outage, a variable that is not set, a driver that is missing
            raise _storage_error(home, error) from error
        end_dead_runs(instance, home)
    with instance:
        try:
            yield instance
        except Exception as error:
            lost = error if isinstance(error, SQLAlchemyError) else error.__cause__
            if not isinstance(lost, SQLAlchemyError):
                raise
            raise _storage_error(home, lost) from error


def _storage_error(home: Path, error: Exception) -> RagftError:
    return RagftError(f"Dagster's storage ({home / _INSTANCE_FILE}): {one_line(error)}")


def add_partition(settings: Settings, version: str) -> None:
    """Make a frozen version known to Dagster."""
    with open_instance(settings) as instance:
        _add(instance, version)


def _add(instance: dg.DagsterInstance, version: str) -> None:
    instance.add_dynamic_partitions(PARTITIONS_NAME, [version])


def run_version(
    settings: Settings,
    version: str,
    assets: list[str] | None = None,
    report: Callable[[str], str] = lambda asset: "",
) -> bool:
    """Materialize a frozen version in this process, showing progress; True where all went well.

    Args:
        assets: only these (default: the whole graph).
        report: what to show when an asset is there, beside its line.
    """
    home = dagster_home(settings)
    from ragft_pipeline.definitions import defs

    job = defs.resolve_job_def(JOB_NAME)
    known = {key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys}
    if unknown := sorted(set(assets or []) - known):
        raise RagftError(f"no asset {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    run_id = str(uuid.uuid4())
    with open_instance(settings) as instance, holding(home, run_id):
        _add(instance, version)
        chosen = [dg.AssetKey(name) for name in assets] if assets else None
        if steps_on_ray(settings):
            success, events = _execute_on_ray(instance, run_id, version, chosen, report)
        else:
            total = len(assets or known)
            display = Display(total, _expected(settings, version, assets or known), report)
            with display.shown():
                result = job.execute_in_process(
                    instance=instance,
                    run_id=run_id,
                    partition_key=version,
                    asset_selection=chosen,
                    run_config={"loggers": {"progress": {}}},
                    raise_on_error=False,
                )
            success, events = result.success, result.all_events
        if status := current_status(settings):
            instance.report_runless_asset_event(status)
        if success and not assets:
            note_shown(settings, version)
    for event in events:
        if event.is_step_failure:
            failure = event.step_failure_data
            data = failure.user_failure_data
            reason = data.description if data else failure.error_display_string
            print(f"ragft: {event.step_key} failed: {reason}", file=sys.stderr)
    return success


def _expected(settings: Settings, version: str, assets: Iterable[str]) -> dict[str, float]:
    """Return the seconds that assets took when they were last computed.

    Not of those that the version has: they take none.
    """
    store = ArtifactStore(settings.store)
    before = SnapshotStore(store).versions()
    before = before[: before.index(version)][::-1]
    expected: dict[str, float] = {}
    for asset in assets:
        if store.linked(version, asset) is None:
            links = (store.linked(earlier, asset) for earlier in before)
            if link := next((link for link in links if link is not None), None):
                expected[asset] = float(link.facts["compute_seconds"])
    return expected


def _execute_on_ray(
    instance: dg.DagsterInstance,
    run_id: str,
    version: str,
    assets: list[dg.AssetKey] | None,
    report: Callable[[str], str],
) -> tuple[bool, Sequence[dg.DagsterEvent]]:
    """Execute the steps as jobs of the cluster; their lines are printed when all have ended."""
    job = dg.reconstructable(whole_job)
    run = instance.create_run_for_job(
        job.get_definition(),
        run_id=run_id,
        run_config={"loggers": {"progress": {}}},
        tags={PARTITION_NAME_TAG: version},
        asset_selection=frozenset(assets) if assets else None,
        job_code_origin=job.get_python_origin(),
    )
    with execute_run(job, run, instance) as result:
        for entry in instance.all_logs(run_id):
            if entry.dagster_event is None:
                print(entry.user_message)
            elif entry.dagster_event.is_step_success and (text := report(str(entry.step_key))):
                print(text)
        return result.success, result.all_events


def serve_ui(settings: Settings, port: int) -> int:
    """Run `dagster dev` on 127.0.0.1 over the same store until it is stopped."""
    with open_instance(settings):
        pass  # its databases are there before its processes open them
    os.environ.setdefault("RAGFT_STORE", absolute(settings.store))
    command = [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port)]
    return run_with_all_it_starts([*command, "-m", "ragft_pipeline.definitions"])
