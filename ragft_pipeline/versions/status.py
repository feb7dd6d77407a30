"""What each corpus version's assets did: computed, reused, carried forward, stale or missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ragft_pipeline.corpus.snapshots import Snapshot, SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.lineage.foresight import foresight
from ragft_pipeline.lineage.steps import Recipe, carry_decision
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Artifact, Link
from ragft_pipeline.store.housekeeping import disk_use

MISSING = "missing"


def asset_state(
    recipe: Recipe, snapshot: Snapshot, links: Mapping[str, Link], settings: Settings
) -> str:
    """Return `computed`, `reused`, `carried`, `missing`, or `stale (cause)` for a version.

    Args:
        links: what the version uses, by asset.
    """
    link = links.get(recipe.name)
    artifact = snapshot.store.peek(recipe.name, link.action) if link else None
    if link is None or artifact is None:
        return MISSING
    cause = _stale_cause(recipe, link, artifact, snapshot, links, settings)
    return f"stale ({cause})" if cause else link.how


def _stale_cause(
    recipe: Recipe,
    link: Link,
    artifact: Artifact,
    snapshot: Snapshot,
    links: Mapping[str, Link],
    settings: Settings,
) -> str:
    inputs: dict[str, str] = {}
    for name in recipe.inputs:
        if name not in links:
            return f"{name} is missing"
        inputs[name] = links[name].data_version
    try:
        action = recipe.action(settings, inputs, snapshot)
    except RagftError as error:
        return str(error)
    if link.how == "carried":
        if link.carried_for == carry_decision(action, settings):
            return ""
    elif link.action == action:
        return ""
    changed = [name for name, data in inputs.items() if artifact.inputs.get(name) != data]
    return f"{', '.join(changed) or 'settings, code or base model'} changed"


def status_lines(snapshots: SnapshotStore, settings: Settings, last: int) -> Iterator[str]:
    """Yield a line a version and a line an asset, newest version last, then the use of the disk."""
    versions = snapshots.versions()
    if not versions:
        yield "no corpus version yet: run `ragft run`"
        return
    for version in versions[-last:]:
        snapshot, links = snapshots.load(version), snapshots.store.links(version)
        facts = snapshot.facts
        yield f"{version}  {facts['documents']} documents, {facts['skipped']} skipped"
        for name, counts in snapshot.left_out.items():
            yield f"  {name}: {counts}"
        if version == versions[-1]:
            yield from (f"  {line}" for line in foresight(snapshot, settings))
        for recipe in RECIPES:
            link = links.get(recipe.name)
            state = asset_state(recipe, snapshot, links, settings)
            seconds = f"{link.seconds:8.1f} s" if link else ""
            yield f"  {recipe.name:<18} {state:<12} {seconds:>10}  {_remark(link)}".rstrip()
    yield from _disk_lines(snapshots, versions[-last:])


def _remark(link: Link | None) -> str:
    if link and link.how == "carried":
        return link.reason
    if link and link.how == "computed" and "rows_computed" in link.facts:
        return f"{link.facts['rows_computed']} rows computed, {link.facts['rows_reused']} reused"
    return ""


def _disk_lines(snapshots: SnapshotStore, versions: list[str]) -> Iterator[str]:
    use = disk_use(snapshots.store, versions)
    yield f"disk: {use.total / 1e6:.1f} MB in {snapshots.store.url}"
    for name, size in sorted(use.by_asset.items(), key=lambda item: -item[1]):
        yield f"  {name:<24} {size / 1e6:10.1f} MB"
    for version in versions:
        own, shared = use.by_version[version]
        yield (
            f"  {version:<24} {own / 1e6:10.1f} MB of its own, "
            f"{shared / 1e6:.1f} MB shared with other versions"
        )


def status_table(snapshots: SnapshotStore, settings: Settings, last: int) -> str:
    """Return a Markdown table, an asset a row and a version a column, the newest first."""
    versions = snapshots.versions()[-last:][::-1]
    current = snapshots.current()
    names = [
        f"**{name}** (current)" if current and name == current.version else name
        for name in versions
    ]
    lines = [f"| asset | {' | '.join(names)} |", "|---" * (len(versions) + 1) + "|"]
    used = [(snapshots.load(version), snapshots.store.links(version)) for version in versions]
    for recipe in RECIPES:
        states = []
        for snapshot, links in used:
            state = asset_state(recipe, snapshot, links, settings)
            link = links.get(recipe.name)
            remark = f": {link.reason}" if link and state == "carried" else ""
            states.append(f"{_WORDS.get(state, state)}{remark}".replace("|", "/"))
        lines.append(f"| {recipe.name} | {' | '.join(states)} |")
    return "\n".join(lines)


_WORDS = {
    "computed": "fresh",
    "reused": "fresh (reused)",
    "carried": "carried forward",
}
