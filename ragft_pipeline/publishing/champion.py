"""The champion into every target of ragft.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.publishing.bundles import plan_bundle, publish_bundle
from ragft_pipeline.publishing.manifest import State
from ragft_pipeline.publishing.opening import open_target
from ragft_pipeline.publishing.planning import Plan
from ragft_pipeline.publishing.publication import Published
from ragft_pipeline.serving.bundle import Bundle, BundleStore
from ragft_pipeline.serving.history import History
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore

_COLUMNS = ("generation", "event", "rows_written", "rows_updated", "rows_deleted", "rows_kept",
            "rows_copied", "recall_at_10", "agreement", "seconds")  # fmt: skip
_SUMMED = ("rows_written", "rows_updated", "rows_deleted", "rows_kept", "rows_copied")


def served_bundle(store: ArtifactStore) -> Bundle:
    """Return the bundle in force; RagftError where nothing was promoted yet."""
    return BundleStore(store).load(History(store).require_current().bundle)


def locks_of(store: ArtifactStore) -> Path:
    """Return the folder of the locks of those who publish from a store."""
    return store.root / "locks"


def publish_champion(
    settings: Settings, store: ArtifactStore, progress: Callable[[str], None]
) -> dict[str, Published]:
    """Make what is served the live generation of every target; what each came to, by its name.

    Raises RagftError for the first target that refused, once all were tried.
    """
    bundle = served_bundle(store)
    done: dict[str, Published] = {}
    failed: list[RagftError] = []
    for target in settings.targets:
        try:
            done[target.name] = publish_bundle(
                target, bundle, settings.compute, locks_of(store), progress
            )
        except RagftError as error:
            progress(f"{target.name}: {error}")
            kind = TransientError if isinstance(error, TransientError) else RagftError
            failed.append(kind(f"{target.name}: {error}"))
    if failed:
        raise failed[0]
    return done


def plan_champion(settings: Settings, store: ArtifactStore) -> dict[str, Plan]:
    """Return what `publish_champion` would do, by the targets' names."""
    bundle = served_bundle(store)
    return {
        target.name: plan_bundle(target, bundle, settings.compute, locks_of(store))
        for target in settings.targets
    }


def live_bundles(settings: Settings, store: ArtifactStore) -> dict[str, str]:
    """Return the bundle whose points each target's readers search; "" where there is none."""
    found = {}
    for target in settings.targets:
        opened = open_target(target, locks_of(store))
        try:
            state: State = opened.state()
        finally:
            opened.close()
        found[target.name] = state.live.bundle if state.live else ""
    return found


def facts_of(done: dict[str, Published]) -> dict[str, Any]:
    """Return what the lineage shows: a table of the targets, and the sums over them."""
    rows = {name: made.facts for name, made in done.items()}
    heads = ["target", *(name.replace("_", " ") for name in _COLUMNS)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [
        f"| {' | '.join([name, *(str(row[column]) for column in _COLUMNS)])} |"
        for name, row in rows.items()
    ]
    sums = {name: sum(int(row[name]) for row in rows.values()) for name in _SUMMED}
    generations = {f"generation of {name}": row["generation"] for name, row in rows.items()}
    seconds = round(sum(float(row["seconds"]) for row in rows.values()), 2)
    return {"targets": "\n".join(lines), **sums, "publishing_seconds": seconds, **generations}
