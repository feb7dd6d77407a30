"""What an asset's inputs have otherwise than those of the artifact that an ancestor has of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.corpus.nodes import node_texts, with_context
from ragft_pipeline.lineage.steps import Step
from ragft_pipeline.store import Artifact

if TYPE_CHECKING:
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
        earlier, change = step.earlier, step.change(asset, schemas.NODES)
        if earlier is None or change is None:
            return None
        both = [part.column("node_id") for part in (change.before, change.after)]
        ids = pc.unique(pa.chunked_array([*both[0].chunks, *both[1].chunks], pa.string()))
        was |= _texts(earlier.inputs[asset], change.before, ids, context)
        now |= _texts(step.artifact(asset), change.after, ids, context)
    gone = {node: text for node, text in was.items() if now.get(node) != text}
    return gone, {node: text for node, text in now.items() if was.get(node) != text}


def _texts(artifact: Artifact, rows: pa.Table, ids: pa.Array, context: bool) -> Texts:
    """Return the texts of some nodes; `rows` has all of them but for what other documents share."""
    places = pc.is_in(artifact.table(columns=("node_id",)).column(0), ids)
    if pc.sum(places).as_py() not in (None, rows.num_rows):
        rows = artifact.table().filter(places)
    return node_texts(with_context(rows) if context else rows)


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
