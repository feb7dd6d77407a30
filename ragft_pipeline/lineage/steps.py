"""How an asset is made: its action key, the artifact it finds or makes, and the link to a version.

This is the whole of the caching rule and knows nothing of Dagster: the same steps run from a
notebook or a test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from ragft_pipeline.compute import open_map
from ragft_pipeline.corpus.snapshots import Snapshot, SnapshotStore
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.identities import versions
from ragft_pipeline.models.memory import give_back, seldom_collected
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.schemas import Table
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Artifact, ArtifactStore, How, Link, Workspace
from ragft_pipeline.store.life import at_work
from ragft_pipeline.store.tables import Change, Splice


@dataclass(frozen=True)
class Produced:
    """What a computation returns: the asset's table, if it is one, and facts about it.

    A table that grows with the corpus is a reader: it is written as it is made; or it is an earlier
    one with other rows spliced in, of which only these are written. Where its rows are
    not bit-stable, `made_of` is a digest of what went in, and with the code the data version;
    `data_version` is a digest of what came out that says it all.
    """

    table: pa.Table | pa.RecordBatchReader | Splice | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    data_version: str | None = None
    made_of: str | None = None


@dataclass(frozen=True)
class Earlier:
    """What an ancestor of this version has of an asset, by the same code and settings.

    Its table, where it has one, is in segments.
    """

    version: str
    artifact: Artifact
    inputs: dict[str, Artifact]


@dataclass(frozen=True)
class Step:
    """One asset for one corpus version: what its computation may read, and its action key."""

    settings: Settings
    store: ArtifactStore
    version: str
    work: Workspace
    inputs: dict[str, Link] = field(default_factory=dict)
    action: str = ""
    lineage: str = ""

    @property
    def snapshots(self) -> SnapshotStore:
        """The frozen corpus versions."""
        return SnapshotStore(self.store)

    @cached_property
    def snapshot(self) -> Snapshot:
        """The corpus version this step is for."""
        return self.snapshots.load(self.version)

    def artifact(self, asset: str) -> Artifact:
        """Return the artifact of an input, the one that the action key names."""
        link = self.inputs.get(asset)
        artifact = self.store.find(asset, link.action) if link else None
        return artifact or self.store.read(self.version, asset)

    def table(self, asset: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return an input's table, or some of its columns."""
        return self.artifact(asset).table(columns=columns)

    @cached_property
    def earlier(self) -> Earlier | None:
        """This asset as the nearest ancestor has it, with the inputs that it was made of."""
        found = nearest(self.work.asset, self.lineage, self.store, self.version)
        if found is None or found[1].table_path().is_file():
            return None
        version, artifact = found
        inputs = {}
        for asset, link in self.store.links(version).items():
            if artifact.inputs.get(asset) == link.data_version:
                inputs[asset] = self.store.find(asset, link.action)
        whole = {asset: one for asset, one in inputs.items() if one is not None}
        return Earlier(version, artifact, whole) if whole.keys() >= artifact.inputs.keys() else None

    def change(self, asset: str, table: Table) -> Change | None:
        """Return what is otherwise in an input than when `earlier` was made; None: all may be."""
        if self.earlier is None:
            return None
        before = self.earlier.inputs[asset].table_path()
        return table.layout.change(before, self.artifact(asset).table_path())

    def spliced(self, groups: pa.Array, rows: pa.Table) -> Splice:
        """Return the table of `earlier` with these rows of some groups instead of its own."""
        assert self.earlier is not None
        return Splice(self.earlier.artifact.table_path(), groups, rows)


@dataclass(frozen=True)
class Decision:
    """Whether an earlier version's model is kept for this one, and the reason a person reads."""

    keep: bool
    reason: str


@dataclass(frozen=True)
class Recipe:
    """An asset's computation and everything that can change its result.

    Attributes:
        name: the asset's key.
        compute: makes it.
        inputs: the assets it reads; their data versions are part of the action key.
        sections: the sections of ragft.yaml it reads; their digest is part of the key.
        weights: sections whose `model`, where they name one, it loads; its digest is in the key.
        table: the schema of its table; None for models and pages, whose data version is the key.
        code: raise it when the computation changes.
        calls: the modules with version constants that it computes with, `retrieval.encoder` say;
            these constants are part of the key (ragft_pipeline.identities).
        identity: extra identity of a root asset, from the frozen snapshot.
        keep: for a trained model, says whether an earlier version's may serve this one, and why.
        heavy: whether it keeps all cores or the GPU busy, so that only one such runs at a time.
    """

    name: str
    compute: Callable[[Step], Produced]
    inputs: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    table: Table | None = None
    code: int = 1
    calls: tuple[str, ...] = ()
    identity: Callable[[Snapshot], str] | None = None
    keep: Callable[[Step, Artifact], Decision] | None = None
    heavy: bool = False

    def code_version(self, settings: Settings) -> str:
        """Return the version of code and settings, as Dagster's staleness sees it."""
        return f"{self.code}.{self.computed_by[:8]}-{settings.section_digest(*self.sections)[:12]}"

    @property
    def computed_by(self) -> str:
        """A digest of the code alone: the recipe's number and the constants of what it calls."""
        return digest_of(self.code, versions(*self.calls))

    def action(self, settings: Settings, inputs: dict[str, str], snapshot: Snapshot) -> str:
        """Return the action key: same key, same artifact."""
        identity = self.identity(snapshot) if self.identity else ""
        return digest_of(self.name, self.digest(settings), inputs, identity)

    def digest(self, settings: Settings) -> str:
        """Return a digest of the code, the settings and the base models, whatever the inputs."""
        named = {name: getattr(settings, name).model for name in self.weights}
        models = {name: resolve_weights(model).digest for name, model in named.items() if model}
        return digest_of(self.code_version(settings), models)


@dataclass(frozen=True)
class Outcome:
    """What materializing gave: the artifact, and how this version came by it."""

    artifact: Artifact
    link: Link


def materialize(
    recipe: Recipe,
    settings: Settings,
    version: str,
    progress: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Give a version its artifact: the one of the same action where there is one, else a new one.

    Raises RagftError where an input is missing, and for everything a user can put right.
    """
    start = time.monotonic()
    store = ArtifactStore(settings.store)
    snapshot = SnapshotStore(store).load(version)
    links = _input_links(recipe, store, version)
    inputs = {asset: link.data_version for asset, link in links.items()}
    action = recipe.action(settings, inputs, snapshot)
    artifact = store.find(recipe.name, action)
    how: How = "reused" if artifact else "computed"
    carried_for = reason = ""
    if artifact is None and recipe.keep is not None:
        artifact, reason = _carry_forward(recipe, settings, store, version, links, progress)
        if artifact is not None:
            how, carried_for = "carried", carry_decision(action, settings)
    if artifact is None:
        progress(f"{recipe.name}: computing")
        artifact = _compute(recipe, settings, store, version, action, links, progress)
    seconds = time.monotonic() - start
    link = Link(
        recipe.name, version, artifact.action, artifact.data_version, how, seconds,
        artifact.facts, carried_for, reason,
    )  # fmt: skip
    store.link(link)
    progress(f"{recipe.name}: {how} in {seconds:.1f} s{_rows_phrase(link)}")
    return Outcome(artifact, link)


def carry_decision(action: str, settings: Settings) -> str:
    """Return the key of the decision not to run `action`: another policy decides anew."""
    return digest_of(action, settings.retrain_policy.digest())


def _carry_forward(
    recipe: Recipe,
    settings: Settings,
    store: ArtifactStore,
    version: str,
    links: dict[str, Link],
    progress: Callable[[str], None],
) -> tuple[Artifact | None, str]:
    """Return the last earlier version's model where `retrain_policy` keeps it, and the reason."""
    if settings.retrain_policy.kind == "always" or recipe.keep is None:
        return None, ""
    found = nearest(recipe.name, _lineage(recipe, settings, store, links), store, version)
    if found is None:
        return None, ""
    _, model = found
    with store.staging(at_work(f"{recipe.name}-decision", version)) as folder:
        work = _workspace(recipe, settings, store, folder, progress)
        decision = recipe.keep(Step(settings, store, version, work, links), model)
    progress(f"{recipe.name}: {'kept' if decision.keep else 'retraining'}, {decision.reason}")
    return (model if decision.keep else None), decision.reason


def _lineage(
    recipe: Recipe, settings: Settings, store: ArtifactStore, links: dict[str, Link]
) -> str:
    """Return a digest of the code and settings of an asset and of all it comes from."""
    inputs = {asset: store.find(asset, link.action) for asset, link in links.items()}
    return digest_of(
        recipe.digest(settings), {asset: found.lineage for asset, found in inputs.items() if found}
    )


def nearest(
    asset: str, lineage: str, store: ArtifactStore, version: str
) -> tuple[str, Artifact] | None:
    """Return the nearest ancestor for which the same code and settings made an asset, with that."""
    snapshots = SnapshotStore(store)
    parent = snapshots.load(version).facts["parent"]
    while parent is not None:
        link = store.linked(parent, asset)
        artifact = store.find(asset, link.action) if link else None
        if artifact is not None and artifact.lineage == lineage:
            return parent, artifact
        parent = snapshots.load(parent).facts["parent"]
    return None


def _compute(
    recipe: Recipe,
    settings: Settings,
    store: ArtifactStore,
    version: str,
    action: str,
    links: dict[str, Link],
    progress: Callable[[str], None],
) -> Artifact:
    start = time.monotonic()
    lineage = _lineage(recipe, settings, store, links)
    with store.staging(at_work(recipe.name, version)) as folder:
        work = _workspace(recipe, settings, store, folder, progress)
        step = Step(settings, store, version, work, links, action, lineage)
        with seldom_collected() if recipe.table else nullcontext():
            produced = recipe.compute(step)
        data_version = produced.data_version or action
        if produced.made_of is not None:
            data_version = digest_of(recipe.computed_by, produced.made_of)
        rows = {}
        if recipe.table is not None:
            assert produced.table is not None, recipe.name
            path = folder / f"{recipe.name}.parquet"
            by_rows = produced.data_version is None and produced.made_of is None
            layout = recipe.table.layout if by_rows else recipe.table.keyed
            rows["row_count"] = layout.write(produced.table, path)
            if by_rows:
                data_version = layout.digest(path)
        facts = {**work.counts, **produced.facts, **rows}
        facts["compute_seconds"] = round(time.monotonic() - start, 3)
        inputs = {asset: link.data_version for asset, link in links.items()}
        artifact = store.publish(
            recipe.name,
            action,
            folder,
            data_version=data_version,
            facts=facts,
            inputs=inputs,
            lineage=lineage,
        )
        work.published()
    if recipe.heavy:
        give_back()
    return artifact


def _workspace(
    recipe: Recipe,
    settings: Settings,
    store: ArtifactStore,
    folder: Path,
    progress: Callable[[str], None],
) -> Workspace:
    mapped = open_map(settings.compute)
    return Workspace(store, recipe.name, folder, progress, mapped, recipe.computed_by)


def _input_links(recipe: Recipe, store: ArtifactStore, version: str) -> dict[str, Link]:
    used = store.links(version) if recipe.inputs else {}
    for asset in recipe.inputs:
        if asset not in used:
            raise RagftError(
                f"{recipe.name} needs {asset}, which is missing for {version}: "
                "materialize it first, or run all (`ragft run`)"
            )
    return {asset: used[asset] for asset in recipe.inputs}


def _rows_phrase(link: Link) -> str:
    if link.reason:
        return f" ({link.reason})"
    if link.how == "reused" or "rows_computed" not in link.facts:
        return ""
    return f" ({link.facts['rows_computed']} rows computed, {link.facts['rows_reused']} reused)"
