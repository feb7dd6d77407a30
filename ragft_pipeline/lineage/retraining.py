"""Retrain or not: whether a model of an earlier version may serve the next one (`retrain_policy`).

Every model's artifact says which training rows and documents made it, so the question is always
how far the rows have come from the model in use, not from the version before: small changes add
up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragft_pipeline.evaluation.significance import MIN_UNITS, unpaired_difference
from ragft_pipeline.lineage.steps import Decision, Step
from ragft_pipeline.lineage.taint import record_documents
from ragft_pipeline.store import Artifact
from ragft_pipeline.tuning.data import TrainingTables

TRAINING_ROWS_FILE = "training_rows.parquet"
_ROWS = pa.schema([("question_id", pa.string()), ("node_id", pa.string()), ("split", pa.string())])

TRAIN, VAL, EVERY, LOGGED = "train", "val", "all", "log"

Rows = Mapping[str, pa.Table]
"""Tables with `question_id` and `node_id` by part: of what trains and what chooses, or of all; and
what trains of a log, without nodes.
"""

Judge = Callable[[Step, Path, pa.Table], np.ndarray]
"""Scores a model's folder on QA_PAIRS of train and val: its gain in nDCG@10 a question."""


def record_training(artifact: Path, tables: TrainingTables) -> None:
    """Write into an artifact's folder which rows and documents trained or chose its model."""
    asked = tables.log.column("question_id").to_pylist() if tables.log is not None else []
    nodes = (tables.train_nodes, tables.val_nodes)
    record_documents(artifact / "model", *nodes, questions=asked)
    rows = {TRAIN: tables.train_pairs, VAL: tables.val_pairs}
    record_rows(artifact, rows if tables.log is None else rows | {LOGGED: tables.log})


def record_rows(artifact: Path, rows: Rows) -> None:
    """Write into an artifact's folder which rows trained or chose its model."""
    parts = []
    for part, own in rows.items():
        nodes = own.column("node_id") if part != LOGGED else pa.array([""] * len(own))
        columns = [own.column("question_id"), nodes, pa.array([part] * len(own))]
        parts.append(pa.table(columns, names=_ROWS.names).cast(_ROWS))
    pq.write_table(pa.concat_tables(parts), artifact / TRAINING_ROWS_FILE, compression="zstd")


def decide(step: Step, model: Artifact, rows: Rows, judge: Judge | None = None) -> Decision:
    """Say whether an earlier version's model is kept for this version, by `retrain_policy`.

    A model that has seen a text which is held out by now, or a question of the log that was taken
    back or judged meanwhile, is never kept: its measure would leak.

    Args:
        rows: what it would be trained on now; the first part is what a share is of.
        judge: says what the model gains; without one nothing tells a drift, and the share decides.
    """
    policy = step.settings.retrain_policy
    try:
        known = pq.read_table(model.path / TRAINING_ROWS_FILE)
    except FileNotFoundError:
        return Decision(False, "the earlier model does not say what trained it")
    leaked = _held_out_by_now(known, step.table("chunked_nodes", ("node_id", "split")))
    if leaked:
        return Decision(False, f"{leaked} nodes that trained it are held out by now")
    if gone := len(_ids(known, LOGGED) - _asked(rows, LOGGED)):
        return Decision(False, f"{gone} questions of the log that trained it may not by now")
    if policy.kind == "share_changed" or judge is None:
        return _share_changed(known, rows, policy.share)
    return _drifted(step, model, known, rows, judge)


def _held_out_by_now(known: pa.Table, nodes: pa.Table) -> int:
    """Count the nodes that trained the model and stand in val or test now."""
    trained = known.filter(pc.equal(known.column("split"), TRAIN)).column("node_id")
    held_out = nodes.filter(pc.not_equal(nodes.column("split"), "train")).column("node_id")
    return len(set(trained.to_pylist()) & set(held_out.to_pylist()))


def _share_changed(known: pa.Table, rows: Rows, limit: float) -> Decision:
    part = next(iter(rows))
    before, now = _ids(known, part, LOGGED), _asked(rows, part, LOGGED)
    share = max(len(now - before), len(before - now)) / max(1, len(before))
    sign = "<" if share < limit else ">="
    return Decision(share < limit, f"{share:.1%} of the training rows changed ({sign} {limit:.1%})")


def _ids(known: pa.Table, *parts: str) -> set[str]:
    of_parts = pc.is_in(known.column("split"), pa.array(parts))
    return set(known.filter(of_parts).column("question_id").to_pylist())


def _asked(rows: Rows, *parts: str) -> set[str]:
    own = [rows[part].column("question_id").to_pylist() for part in parts if part in rows]
    return {question for ids in own for question in ids}


def _drifted(step: Step, model: Artifact, known: pa.Table, rows: Rows, judge: Judge) -> Decision:
    """Compare the model's gain over its base on questions of new nodes and of unchanged ones.

    Neither group trained the model: new and changed nodes' questions of train and val, against
    val questions whose nodes it was chosen on. The gain, not the score, because new documents may
    simply be harder to search.
    """
    policy = step.settings.retrain_policy
    seen = pc.unique(known.column("node_id"))
    pairs = pa.concat_tables([rows[TRAIN], rows[VAL]])
    new = _first(pairs, pc.invert(pc.is_in(pairs.column("node_id"), seen)), policy.questions)
    val = rows[VAL]
    old = _first(val, pc.is_in(val.column("node_id"), seen), policy.questions)
    enough = all(
        side.num_rows >= policy.min_questions
        and len(pc.unique(side.column("cluster"))) >= MIN_UNITS
        for side in (new, old)
    )
    if not enough:
        return Decision(
            True,
            f"{new.num_rows} questions of new nodes, {old.num_rows} of unchanged ones: too few, "
            "or about too few documents, to show a drift",
        )
    gains = judge(step, model.model, pa.concat_tables([old, new]))
    drop = unpaired_difference(
        gains[: old.num_rows],
        old.column("cluster").to_pylist(),
        gains[old.num_rows :],
        new.column("cluster").to_pylist(),
    )
    found = f"gain on unchanged minus new nodes {drop}"
    return Decision(not drop.gain, f"drifted: {found}" if drop.gain else f"no drift: {found}")


def _first(pairs: pa.Table, mask: pa.ChunkedArray, limit: int) -> pa.Table:
    return pairs.filter(mask).sort_by("question_id").slice(0, limit)
