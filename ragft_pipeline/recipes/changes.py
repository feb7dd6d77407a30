"""What an asset's inputs have otherwise than those of the artifact that an ancestor has of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.corpus.nodes import node_texts, with_context
from ragft_pipeline.lineage.steps import Step
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Artifact

if TYPE_CHECKING:
    from ragft_pipeline.evaluation.question_pools import KeptPools
    from ragft_pipeline.tuning.followed_lists import KeptLists

Texts = dict[str, str]


def unchanged(step: Step, *assets: str) -> bool:
    """Say whether inputs are those that `earlier` was made of, and tell where they are not."""
    assert step.earlier is not None
    made_of = step.earlier.artifact.inputs
    others = [asset for asset in assets if made_of[asset] != step.inputs[asset].data_version]
    if others:
        what = " and ".join(others)
        step.work.progress(f"{step.work.asset}: {what} changed: all is searched for anew")
    return not others


def changed_texts(step: Step, *assets: str, context: bool = False) -> tuple[Texts, Texts] | None:
    """Return the nodes, id to text, that left some splits and that came since `earlier` was made.

    A node whose text is another below other headings left and came.
    """
    was: Texts = {}
    now: Texts = {}
    for asset in assets:
        rows = changed_rows(step, asset)
        if rows is None:
            return None
        before, after = (node_texts(with_context(own) if context else own) for own in rows)
        was, now = was | before, now | after
    gone = {node: text for node, text in was.items() if now.get(node) != text}
    return gone, {node: text for node, text in now.items() if was.get(node) != text}


def changed_rows(step: Step, asset: str) -> tuple[pa.Table, pa.Table] | None:
    """Return the rows of NODES, when `earlier` was made and now, of nodes of changed documents.

    These are all rows of such nodes, whatever document they are in.
    """
    earlier, change = step.earlier, step.change(asset, schemas.NODES)
    if earlier is None or change is None:
        return None
    both = [part.column("node_id") for part in (change.before, change.after)]
    ids = pc.unique(pa.chunked_array([*both[0].chunks, *both[1].chunks], pa.string()))
    return (
        _rows(earlier.inputs[asset], change.before, ids),
        _rows(step.artifact(asset), change.after, ids),
    )


def _rows(artifact: Artifact, rows: pa.Table, ids: pa.Array) -> pa.Table:
    """Return the rows of some nodes; `rows` are all but those of documents that share some."""
    places = pc.is_in(artifact.table(columns=("node_id",)).column(0), ids)
    if pc.sum(places).as_py() not in (None, rows.num_rows):
        rows = artifact.table().filter(places)
    return rows


def kept_pools(step: Step, settings: Settings, *assets: str) -> KeptPools | None:
    """Return the pools that the earlier evaluation kept, by the same models.

    The artifact takes along the rows that it has.

    Args:
        assets: what the pools depend on beside the nodes and the questions.
    """
    from ragft_pipeline.evaluation.question_pools import KeptPools

    rows = changed_rows(step, "chunked_nodes")
    if step.earlier is None or rows is None or not unchanged(step, *assets):
        return None
    earlier = step.earlier.artifact
    step.work.inherit(earlier.path)
    timed = str(earlier.facts.get("latency_of", step.earlier.version))
    return KeptPools.of(earlier.path, timed, *rows, settings)


def kept_lists(step: Step, title: str, assets: Sequence[str], context: bool) -> KeptLists | None:
    """Return the lists of nodes that `earlier` kept, by the same statistics and the same reading.

    The artifact takes the parts that they are made of.
    """
    from ragft_pipeline.tuning.followed_lists import KeptLists

    changed = changed_texts(step, *assets, context=context)
    read_by = [name for name in ("passage_context", "corpus_statistics") if name in step.inputs]
    if step.earlier is None or changed is None or not unchanged(step, *read_by):
        return None
    step.work.inherit(step.earlier.artifact.path)
    return KeptLists.load(step.earlier.artifact.path, title, *changed)
