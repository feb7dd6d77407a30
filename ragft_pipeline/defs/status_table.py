"""`corpus_status`: the table of versions and assets, kept current in the UI without a run."""

from collections import Counter

import dagster as dg

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.defs.names import asset_key, group_name
from ragft_pipeline.digests import digest_of
from ragft_pipeline.instance import BoundCorpus
from ragft_pipeline.recipes import champion
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.versions.staleness import states
from ragft_pipeline.versions.status import status_table

_NAME = "corpus_status"
_VERSIONS = 6
_WORDS = {"computed": "fresh", "reused": "fresh", "carried": "carried forward"}
_NAMED = 2  # stale assets named in the summary of a version; the table has them all


def current_status(corpus: BoundCorpus, settings: Settings) -> dg.AssetMaterialization | None:
    """Return the table under some settings as an event, or None while there is no version."""
    snapshots = SnapshotStore(ArtifactStore(settings.store))
    if not snapshots.versions():
        return None
    table = status_table(snapshots, settings, _VERSIONS)
    return dg.AssetMaterialization(
        asset_key=asset_key(corpus, _NAME),
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


def build_status(corpus: BoundCorpus) -> tuple[dg.AssetSpec, dg.SensorDefinition]:
    """Return the table as an asset without a computation, and the sensor that keeps it current."""
    spec = dg.AssetSpec(
        asset_key(corpus, _NAME),
        group_name=group_name(corpus, "release"),
        # an edge from every asset would hide the lineage behind it
        deps=[asset_key(corpus, champion.name)],
        kinds={"table"},
        description="Every asset of the newest corpus versions: fresh, stale with the cause, "
        "missing or carried forward. Open `ragft/status` below for the table; the sensor "
        f"`{corpus.named('follow_status')}` keeps it current.",
    )

    @dg.sensor(
        name=corpus.named("follow_status"),
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Renews the table `corpus_status` when the state of some asset has changed.",
    )
    def follow_status(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        event = current_status(corpus, corpus.settings)
        if event is None:
            return dg.SkipReason("no corpus version yet")
        shown = event.tags["dagster/data_version"] if event.tags else ""
        if shown == context.cursor:
            return dg.SkipReason("nothing has changed")
        return dg.SensorResult(asset_events=[event], cursor=shown)

    return spec, follow_status
