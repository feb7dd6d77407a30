"""The teacher's scores as they lie in its artifact.

Its table has the lists of questions that were looked at again, and null where the teacher's are the
best of the first look's (ragft_pipeline.tuning.followed_lists).
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.retrieval.best_lists import listed
from ragft_pipeline.store import Artifact
from ragft_pipeline.tuning.followed_lists import KeptLists, Lists

LISTS = "teacher"


def whole_scores(judged: pa.Table, lists: Lists) -> pa.Table:
    """Return TEACHER_SCORES whole: `judged`, and the best of the lists where it has none."""
    plain = pc.is_null(judged.column("node_ids"))
    ids = judged.column("question_id").filter(plain).to_pylist()
    best = listed(ids, *lists.best(ids, lists.width)).select(judged.column_names)
    both = pa.concat_tables([judged.filter(pc.invert(plain)), best.cast(judged.schema)])
    return both.take(pc.index_in(judged.column("question_id"), both.column("question_id")))


def read_scores(artifact: Artifact) -> pa.Table:
    """Return the TEACHER_SCORES of an artifact, whole."""
    kept, judged = KeptLists.load(artifact.path, LISTS, {}, {}), artifact.table()
    return whole_scores(judged, kept.lists[0]) if kept else judged
