"""What is out of date: an asset whose action has changed, and all that is downstream of one."""

from __future__ import annotations

from collections.abc import Mapping

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import Settings
from ragft_pipeline.versions.status import asset_state

FRESH = ("computed", "reused", "carried")


def states(version: str, snapshots: SnapshotStore, settings: Settings) -> dict[str, str]:
    """Return the state of every asset for a version, as `asset_state` says it."""
    snapshot, links = snapshots.load(version), snapshots.store.links(version)
    return {recipe.name: asset_state(recipe, snapshot, links, settings) for recipe in RECIPES}


def out_of_date(state: Mapping[str, str]) -> set[str]:
    """Return the assets that are not fresh, or read one that is not.

    One run of these brings a version up to date; those whose inputs turn out unchanged are reused.
    """
    behind: set[str] = set()
    for recipe in RECIPES:  # in the order of the lineage
        if state[recipe.name] not in FRESH or behind & set(recipe.inputs):
            behind.add(recipe.name)
    return behind
