"""`corpus_status`: the table of versions and assets, kept current in the UI without a run."""

import dagster as dg

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.status import status_table
from ragft_pipeline.store import ArtifactStore, digest_of

_VERSIONS = 6

corpus_status = dg.AssetSpec(
    "corpus_status",
    group_name="evaluation",
    deps=[recipe.name for recipe in RECIPES],
    kinds={"table"},
    description="Every asset of the newest corpus versions: fresh, stale with the cause, missing "
    "or carried forward. `follow_status` keeps it current; see the latest event's metadata.",
)


def current_status(settings: Settings) -> dg.AssetMaterialization | None:
    """Return the table as an event, or None while there is no version."""
    snapshots = SnapshotStore(ArtifactStore(settings.store))
    if not snapshots.versions():
        return None
    table = status_table(snapshots, settings, _VERSIONS)
    return dg.AssetMaterialization(
        asset_key="corpus_status",
        metadata={"ragft/status": dg.MetadataValue.md(table)},
        tags={"dagster/data_version": digest_of(table)[:24]},
    )


@dg.sensor(
    name="follow_status",
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Renews the table `corpus_status` when the state of some asset has changed.",
)
def follow_status(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Report the table where it differs from the last one reported."""
    event = current_status(load_settings())
    if event is None:
        return dg.SkipReason("no corpus version yet")
    shown = event.tags["dagster/data_version"] if event.tags else ""
    if shown == context.cursor:
        return dg.SkipReason("nothing has changed")
    return dg.SensorResult(asset_events=[event], cursor=shown)
