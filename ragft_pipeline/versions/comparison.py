"""What changed between two corpus versions: documents, nodes, questions, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ragft_pipeline import schemas
from ragft_pipeline.corpus.snapshots import Snapshot
from ragft_pipeline.evaluation.summary import EvaluationRows
from ragft_pipeline.recipes import SPLITS
from ragft_pipeline.settings import EvaluationSettings
from ragft_pipeline.store import ArtifactStore

_SHOWN = 20


def diff_lines(
    before: Snapshot, after: Snapshot, store: ArtifactStore, settings: EvaluationSettings
) -> Iterator[str]:
    """Yield what a person wants to know of the way from one version to another."""
    yield f"{before.version} to {after.version}"
    yield from _documents(before, after)
    for asset in ("chunked_nodes", *(f"{split}_qa_pairs" for split in SPLITS)):
        key = "node_id" if asset == "chunked_nodes" else "question_id"
        yield _counts(asset, _keys(store, before, asset, key), _keys(store, after, asset, key))
    yield from _metrics(store, before, after, settings)


def _documents(before: Snapshot, after: Snapshot) -> Iterator[str]:
    old, new = _paths(before), _paths(after)
    moved = {key: path for path, key in old.items() if path not in new}
    lines = []
    for path in sorted(new.keys() - old.keys()):
        source = moved.pop(new[path], None)
        lines.append(f"  renamed  {source} -> {path}" if source else f"  added    {path}")
    lines += [f"  removed  {path}" for path in sorted(moved.values())]
    lines += [
        f"  changed  {path}" for path in sorted(old.keys() & new.keys()) if old[path] != new[path]
    ]
    yield f"documents: {len(old)} -> {len(new)}, {len(lines)} differences"
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        yield f"  and {len(lines) - _SHOWN} more"


def _paths(snapshot: Snapshot) -> dict[str, str]:
    rows = snapshot.table(schemas.DOCUMENTS).to_pylist()
    return {row["path"]: row["doc_key"] for row in rows}


def _keys(store: ArtifactStore, snapshot: Snapshot, asset: str, key: str) -> set[str] | None:
    link = store.linked(snapshot.version, asset)
    artifact = store.find(asset, link.action) if link else None
    return set(artifact.table().column(key).to_pylist()) if artifact else None


def _counts(asset: str, before: set[str] | None, after: set[str] | None) -> str:
    if before is None or after is None:
        return f"{asset}: not materialized for both"
    return (
        f"{asset}: {len(before)} -> {len(after)}, "
        f"{len(after - before)} added, {len(before - after)} removed"
    )


def _metrics(
    store: ArtifactStore, before: Snapshot, after: Snapshot, settings: EvaluationSettings
) -> Iterator[str]:
    old, new = _means(store, before, settings), _means(store, after, settings)
    for name, system in sorted(old.keys() & new.keys()):
        left, right = old[name, system], new[name, system]
        yield f"{name} nDCG@10 {system}: {left:.3f} -> {right:.3f} ({right - left:+.3f})"


def _means(
    store: ArtifactStore, snapshot: Snapshot, settings: EvaluationSettings
) -> Mapping[tuple[str, str], float]:
    link = store.linked(snapshot.version, "retrieval_eval")
    artifact = store.find("retrieval_eval", link.action) if link else None
    if artifact is None:
        return {}
    quick = settings.model_copy(update={"bootstrap": 100})
    results = EvaluationRows(artifact.table(), quick).results()
    return {(r.question_set, r.system): r.means["ndcg_at_10"] for r in results}
