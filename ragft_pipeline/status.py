"""What each corpus version's assets did: computed, reused, stale or missing."""

from __future__ import annotations

from collections.abc import Iterator

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import Settings
from ragft_pipeline.steps import Recipe


def state_of(recipe: Recipe, version: str, snapshots: SnapshotStore, settings: Settings) -> str:
    """Return `computed`, `reused`, `missing`, or `stale (cause)` of an asset for a version."""
    store = snapshots.store
    link = store.linked(version, recipe.name)
    artifact = store.find(recipe.name, link.action) if link else None
    if link is None or artifact is None:
        return "missing"
    inputs: dict[str, str] = {}
    for name in recipe.inputs:
        upstream = store.linked(version, name)
        if upstream is None:
            return f"stale ({name} is missing)"
        inputs[name] = upstream.data_version
    changed = [name for name, data in inputs.items() if artifact.inputs.get(name) != data]
    if changed:
        return f"stale ({', '.join(changed)} changed)"
    try:
        current = recipe.action(settings, inputs, snapshots.load(version))
    except RagftError as error:
        return f"stale ({error})"
    return link.how if current == link.action else "stale (settings, code or base model changed)"


def status_lines(snapshots: SnapshotStore, settings: Settings, last: int) -> Iterator[str]:
    """Yield a line a version and a line an asset, newest version last."""
    versions = snapshots.versions()
    if not versions:
        yield "no corpus version yet: run `ragft run`"
    for version in versions[-last:]:
        facts = snapshots.load(version).facts
        yield f"{version}  {facts['documents']} documents, {facts['skipped']} skipped"
        for recipe in RECIPES:
            link = snapshots.store.linked(version, recipe.name)
            state = state_of(recipe, version, snapshots, settings)
            rows = ""
            if link and link.how == "computed" and "rows_computed" in link.facts:
                computed, reused = link.facts["rows_computed"], link.facts["rows_reused"]
                rows = f"{computed} rows computed, {reused} reused"
            seconds = f"{link.seconds:8.1f} s" if link else ""
            yield f"  {recipe.name:<18} {state:<12} {seconds:>10}  {rows}".rstrip()
