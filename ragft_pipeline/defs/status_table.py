"""`corpus_status`: the table of versions and assets, kept current in the UI without a run."""

from collections import Counter

import dagster as dg

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.digests import digest_of
from ragft_pipeline.recipes import champion
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.versions.staleness import states
from ragft_pipeline.versions.status import status_table

_VERSIONS = 6
_WORDS = {"computed": "fresh", "reused": "fresh", "carried": "carried forward"}
_NAMED = 2  # stale assets named in the summary of a version; the table has them all

corpus_status = dg.AssetSpec(
    "corpus_status",
    group_name="release",
    deps=[champion.name],  # an edge from every asset would hide the lineage behind it
    kinds={"table"},
    description="Every asset of the newest corpus versions: fresh, stale with the cause, missing "
    "or carried forward. Open `ragft/status` below for the table; the sensor `follow_status` keeps "
    "it current.",
)


def current_status(settings: Settings) -> dg.AssetMaterialization | None:
    """Return the table as an event, or None while there is no version."""
    snapshots = SnapshotStore(ArtifactStore(settings.store))
    if not snapshots.versions():
        return None
    table = status_table(snapshots, settings, _VERSIONS)
    return dg.AssetMaterialization(
        asset_key="corpus_status",
        metadata={
            "ragft/summary": dg.MetadataValue.md(_summary(snapshots, settings)),
            "ragft/status": dg.MetadataValue.md(table),
        },
        tags={"dagster/data_version": digest_of(table)[:24]},
    )


def _summary(snapshots: SnapshotStore, settings: Settings) -> str:
    """Return a line a version; below 1000 characters, which the UI shows without a click."""
    current = snapshots.current()
    lines = []
    for version in snapshots.versions()[-_VERSIONS:][::-1]:
        state = states(version, snapshots, settings)
        counts = Counter(_WORDS.get(word := text.split()[0], word) for text in state.values())
        stale = [name for name, text in state.items() if text.startswith("stale")]
        more = ", …" if len(stale) > _NAMED else ""
        named = f" ({', '.join(stale[:_NAMED])}{more})" if stale else ""
        parts = [
            f"{counts[word]} {word}{named if word == 'stale' else ''}"
            for word in ("fresh", "carried forward", "stale", "missing")
            if counts[word]
        ]
        mark = " (current)" if current and version == current.version else ""
        lines.append(f"- {version}{mark}: {', '.join(parts)}")
    return "\n".join(lines)


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
