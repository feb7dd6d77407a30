"""What an asset's inputs have otherwise than those of the artifact that an ancestor has of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.corpus.nodes import node_texts, with_context
from ragft_pipeline.lineage.steps import Step
from ragft_pipeline.settings import Settings
from ragft_pipeline.store.tables import rows_of

if TYPE_CHECKING:
    from ragft_pipeline.evaluation.nodes import Nodes
    from ragft_pipeline.evaluation.question_pools import KeptPools
    from ragft_pipeline.tuning.followed_lists import KeptLists

Texts = dict[str, str]
_ID = pa.string()


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


def changed_rows(
    step: Step, asset: str, rows: pa.Table | None = None
) -> tuple[pa.Table, pa.Table] | None:
    """Return the rows of NODES, when `earlier` was made and now, of nodes of changed documents.

    These are all rows of such nodes, whatever document they are in.

    Args:
        rows: `node_id` and `doc_key` of all rows now, where they are at hand.
    """
    change = step.change(asset, schemas.NODES)
    if change is None:
        return None
    parts = change.before, change.after
    ids = pc.unique(pa.chunked_array([c for p in parts for c in p.column("node_id").chunks], _ID))
    if rows is None:
        rows = step.artifact(asset).table(columns=("node_id", "doc_key"))
    elsewhere = pc.and_(
        pc.is_in(rows.column("node_id"), ids),
        pc.invert(pc.is_in(rows.column("doc_key"), change.groups)),
    )
    documents = pc.unique(rows.column("doc_key").filter(elsewhere))
    if not len(documents):
        return parts
    same = rows_of(step.artifact(asset).table_path(), "doc_key", documents)
    same = same.filter(pc.is_in(same.column("node_id"), ids))
    before, after = (_by_document(pa.concat_tables([part, same])) for part in parts)
    return before, after


def _by_document(rows: pa.Table) -> pa.Table:
    """Return rows of whole documents as a NODES table has them."""
    order = np.argsort(np.array(rows.column("doc_key").to_pylist(), str), kind="stable")
    return rows.take(pa.array(order))


def kept_pools(step: Step, nodes: Nodes, settings: Settings, *assets: str) -> KeptPools | None:
    """Return the pools that the earlier evaluation kept, by the same models.

    The artifact takes along the rows that it has.

    Args:
        nodes: those that there are now.
        assets: what the pools depend on beside the nodes and the questions.
    """
    from ragft_pipeline.evaluation.question_pools import KeptPools

    rows = changed_rows(step, "chunked_nodes", nodes.rows)
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
