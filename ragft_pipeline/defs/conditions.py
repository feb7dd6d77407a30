"""When an asset is requested automatically: the current version is behind, and nothing runs yet."""

from datetime import datetime
from functools import lru_cache

import dagster as dg

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.defs.names import asset_name, partitions_of
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.instance import BoundCorpus
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.versions.staleness import out_of_date, states

SYNC_TAG = {"ragft/trigger": "sync"}


class CurrentVersionBehind(dg.AutomationCondition):
    """True for the current corpus version while the asset, or anything it comes from, is not fresh.

    The store decides by action keys, as `ragft status` does: Dagster's own stale status looks at
    direct parents only and would take a run a layer. Older versions are for backfills: a change of
    code or settings must not retrain them all.
    """

    def __init__(self, corpus: BoundCorpus) -> None:
        self.corpus = corpus

    @property
    def name(self) -> str:
        """The condition's name in the UI."""
        return "current_version_behind"

    @property
    def requires_cursor(self) -> bool:
        """The store is read at each tick; nothing is remembered."""
        return False

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """Return the current version where this asset is behind."""
        settings, asset = self.corpus.settings, asset_name(context.key)
        candidates = context.candidate_subset.expensively_compute_partition_keys()
        version, assets = _state_at_tick(settings, context.evaluation_time)
        if asset in assets:  # its run may have made it since that look, and be over
            version, assets = _current_state(settings)
        behind = {version} if version in candidates and asset in assets else set()
        subset = context.asset_graph_view.get_subset_from_partition_keys(
            context.key, partitions_of(self.corpus), behind
        )
        return dg.AutomationResult(context, subset)


class SettingsChanged(dg.AutomationCondition):
    """True at the tick that first sees other settings, code or base models than the one before.

    Dagster's own condition compares versions as they were when the definitions were loaded; here
    ragft.yaml and the models' folders are read at each tick. All settings count: a setting that
    shapes no result, of the machine say, may be what a failed asset needed.
    """

    def __init__(self, corpus: BoundCorpus) -> None:
        self.corpus = corpus

    @property
    def name(self) -> str:
        """The condition's name in the UI."""
        return "settings_changed"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """Return the candidates where something has changed since the last tick."""
        now = _asked_for(asset_name(context.key), self.corpus.settings)
        changed = context.cursor is not None and context.cursor != now
        subset = context.candidate_subset if changed else context.get_empty_subset()
        return dg.AutomationResult(context, subset, cursor=now)


def _asked_for(asset: str, settings: Settings) -> str:
    """Return a digest of the settings and of what an asset would be made with."""
    recipe = next(recipe for recipe in RECIPES if recipe.name == asset)
    try:
        made_with = recipe.digest(settings)
    except RagftError as error:  # a model or a file that is missing, so far
        made_with = str(error)
    return digest_of(settings.digest(), made_with)


@lru_cache(maxsize=16)  # corpora of a deployment
def _state_at_tick(settings: Settings, moment: datetime) -> tuple[str, frozenset[str]]:
    """Return `_current_state` at a moment, a tick: one look at the store for all its assets."""
    return _current_state(settings)


def _current_state(settings: Settings) -> tuple[str, frozenset[str]]:
    """Return the current version, "" before the first, and its assets that are behind."""
    snapshots = SnapshotStore(ArtifactStore(settings.store))
    current = snapshots.current()
    if current is None:
        return "", frozenset()
    return current.version, frozenset(out_of_date(states(current.version, snapshots, settings)))


def keep_current_up_to_date(corpus: BoundCorpus) -> dg.AutomationCondition:
    """Return the condition of every asset.

    A failed asset is left alone until its inputs, the code or the settings change: a training that
    fails must not start again every quarter of a minute. What runs is looked at before the store:
    an asset that is finished in between is then fresh, and not asked for a second time.
    """
    condition = dg.AutomationCondition
    retry = (condition.any_deps_match(condition.newly_updated()) | SettingsChanged(corpus)).since(
        condition.newly_requested()
    )
    return (
        ~condition.in_progress()
        & ~condition.any_deps_in_progress()
        & CurrentVersionBehind(corpus)
        & (~condition.execution_failed() | retry)
    ).with_label("keep the current version up to date")
