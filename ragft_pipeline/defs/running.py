"""Running the definitions outside the UI: one version in this process, and `dagster dev`."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import dagster as dg
from dagster._core.execution.api import execute_run  # execute_job takes no run id
from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.defs.building import alone
from ragft_pipeline.defs.dead_runs import end_dead_runs, holding
from ragft_pipeline.defs.display import Display
from ragft_pipeline.defs.executor import steps_on_ray
from ragft_pipeline.defs.jobs import version_job
from ragft_pipeline.defs.names import asset_key, asset_name, partitions_name
from ragft_pipeline.defs.processes import run_with_all_it_starts
from ragft_pipeline.defs.status_table import current_status
from ragft_pipeline.errors import RagftError, one_line
from ragft_pipeline.instance import BoundCorpus
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
    own = Path(_INSTANCE_FILE)  # of the project; else the one that comes with the package
    text = own.read_bytes() if own.is_file() else files(__package__).joinpath(own.name).read_bytes()
    (home_path / _INSTANCE_FILE).write_bytes(text)
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


def add_partition(corpus: BoundCorpus, version: str) -> None:
    """Make a frozen version known to Dagster."""
    with open_instance(corpus.settings) as instance:
        instance.add_dynamic_partitions(partitions_name(corpus), [version])


def whole_job(corpus: str) -> dg.JobDefinition:
    """Return the job of one corpus version; a step's process on another machine makes it anew."""
    bound = BoundCorpus.from_json(corpus)
    return alone(bound).resolve_job_def(version_job(bound))


def run_version(
    corpus: BoundCorpus,
    version: str,
    assets: list[str] | None = None,
    report: Callable[[str], str] = lambda asset: "",
) -> bool:
    """Materialize a frozen version in this process, showing progress; True where all went well.

    Args:
        assets: only these (default: the whole graph).
        report: what to show when an asset is there, beside its line.
    """
    settings = corpus.settings
    home = dagster_home(settings)
    defs = alone(corpus)
    job = defs.resolve_job_def(version_job(corpus))
    known = {asset_name(key) for key in defs.resolve_asset_graph().materializable_asset_keys}
    if unknown := sorted(set(assets or []) - known):
        raise RagftError(f"no asset {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    run_id = str(uuid.uuid4())
    with open_instance(settings) as instance, holding(home, run_id):
        instance.add_dynamic_partitions(partitions_name(corpus), [version])
        chosen = [asset_key(corpus, name) for name in assets] if assets else None
        if steps_on_ray(settings):
            success, events = _execute_on_ray(corpus, instance, run_id, version, chosen, report)
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
        if status := current_status(corpus, settings):
            instance.report_runless_asset_event(status)
        if success and not assets:
            note_shown(corpus, version)
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
    corpus: BoundCorpus,
    instance: dg.DagsterInstance,
    run_id: str,
    version: str,
    assets: list[dg.AssetKey] | None,
    report: Callable[[str], str],
) -> tuple[bool, Sequence[dg.DagsterEvent]]:
    """Execute the steps as jobs of the cluster; their lines are printed when all have ended."""
    job = dg.build_reconstructable_job(
        whole_job.__module__, whole_job.__name__, reconstructable_args=(corpus.to_json(),)
    )
    run = instance.create_run_for_job(
        job.get_definition(),
        run_id=run_id,
        run_config={"loggers": {"progress": {}}},
        tags={"dagster/partition": version},
        asset_selection=frozenset(assets) if assets else None,
        job_code_origin=job.get_python_origin(),
    )
    with execute_run(job, run, instance) as result:
        for entry in instance.all_logs(run_id):
            if entry.dagster_event is None:
                print(entry.user_message)
            elif entry.dagster_event.is_step_success and (
                text := report(str(entry.step_key).rpartition("__")[2])
            ):
                print(text)
        return result.success, result.all_events


def serve_ui(corpus: BoundCorpus, port: int) -> int:
    """Run `dagster dev` on 127.0.0.1 over the same store until it is stopped."""
    settings = corpus.settings
    with open_instance(settings):
        pass  # its databases are there before its processes open them
    os.environ["RAGFT_STORE"] = absolute(settings.store)
    os.environ["RAGFT_SETTINGS"] = corpus.settings_file
    command = [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port)]
    return run_with_all_it_starts([*command, "-m", "ragft_pipeline.definitions"])
