"""Sanity of each artifact, as plain checks; `ragft_pipeline.defs` shows them as asset checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ragft_pipeline.lineage.steps import Recipe, Step
from ragft_pipeline.recipes import SPLITS
from ragft_pipeline.retrieval.metrics import METRICS
from ragft_pipeline.retrieval.text_vectors import vectors_matrix
from ragft_pipeline.store import Artifact
from ragft_pipeline.store.rows import read_rows_of

_PICKLED = (".pkl", ".pickle", ".pt", ".bin")
_LLAMAINDEX_ADAPTER = "pytorch_model.bin"


@dataclass(frozen=True)
class CheckResult:
    """Whether an artifact passed a check, and the numbers behind it."""

    passed: bool
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A check of one asset; a blocking one stops what is downstream."""

    name: str
    description: str
    run: Callable[[Artifact, Step], CheckResult]
    blocking: bool = True


def checks_of(recipe: Recipe) -> list[Check]:
    """Return the checks of an asset: its table's schema or its model's files, and its own."""
    common = []
    if recipe.table is not None:
        common.append(_schema_check(recipe))
    elif recipe.name not in (
        "passage_context", "eval_report", "answering_report", "refit_models", "champion",
        "published_index",
    ):  # fmt: skip
        common.append(MODEL_FILES)
    return [*common, *CHECKS.get(recipe.name, [])]


def _schema_check(recipe: Recipe) -> Check:
    expected = recipe.table
    assert expected is not None

    def run(artifact: Artifact, step: Step) -> CheckResult:
        table = artifact.table()
        keys = table.select(list(expected.key)).group_by(list(expected.key)).aggregate([])
        names = expected.schema.names  # an older artifact may have more
        declared = table.select(names) if {*names} <= {*table.column_names} else table
        same = declared.schema.remove_metadata().equals(expected.schema)
        unique = keys.num_rows == table.num_rows
        return CheckResult(
            same and unique, {"rows": table.num_rows, "distinct_keys": keys.num_rows}
        )

    return Check("schema_and_key", "The columns are as declared and no key stands twice.", run)


def _model_files(artifact: Artifact, step: Step) -> CheckResult:
    files = [path for path in artifact.model.rglob("*") if path.is_file()]
    weights = [path.name for path in files if path.suffix == ".safetensors"]
    pickled = [
        path.name for path in files if path.suffix in _PICKLED and path.name != _LLAMAINDEX_ADAPTER
    ]
    size = sum(path.stat().st_size for path in files) / 1e6
    untuned = artifact.facts.get("strength") == 0  # then there is nothing but the card
    none_here = artifact.facts.get("where") in ("hosted", "none") or "trained" in artifact.facts
    return CheckResult(
        (bool(weights) or untuned or none_here) and not pickled,
        {"megabytes": size, "pickled": len(pickled)},
    )


MODEL_FILES = Check("safetensors", "The weights are safetensors; nothing is pickled.", _model_files)


def _not_empty(artifact: Artifact, step: Step) -> CheckResult:
    rows = artifact.table().num_rows
    return CheckResult(rows > 0, {"rows": rows})


NOT_EMPTY = Check("not_empty", "There is at least one row.", _not_empty)


def _nodes_hold_text(artifact: Artifact, step: Step) -> CheckResult:
    table = artifact.table()
    empty = sum(not text.strip() for text in table.column("text").to_pylist())
    limit = step.settings.chunking.size
    over = pc.sum(pc.greater(table.column("tokens"), limit + 8)).as_py() or 0
    return CheckResult(empty == 0, {"empty": empty, "over_size": over})


def _no_leak(artifact: Artifact, step: Step) -> CheckResult:
    table = artifact.table()
    pairs = set(zip(table.column("node_id").to_pylist(), table.column("split").to_pylist()))
    shared = len(pairs) - len({node_id for node_id, _ in pairs})
    missing = [split for split in SPLITS if split not in {name for _, name in pairs}]
    facts = {"texts_in_two_splits": shared, "empty_splits": ", ".join(missing) or "none"}
    return CheckResult(shared == 0, facts)


def _questions_asked(artifact: Artifact, step: Step) -> CheckResult:
    table = artifact.table()
    split = artifact.asset.removesuffix("_qa_pairs")
    own = set(step.table(f"{split}_nodes").column("node_id").to_pylist())
    empty = sum(not text.strip() for text in table.column("question").to_pylist())
    strangers = sum(node_id not in own for node_id in table.column("node_id").to_pylist())
    return CheckResult(
        empty == 0 and strangers == 0, {"empty": empty, "of_other_splits": strangers}
    )


def _unit_vectors(artifact: Artifact, step: Step) -> CheckResult:
    index = artifact.table()
    if "vector" in index.column_names:  # of before they lay in the rows alone
        held = index
    else:
        held = read_rows_of(artifact.path, "vectors_document")
    held = held.filter(pc.is_in(held.column("row_key"), index.column("row_key").combine_chunks()))
    norms = np.linalg.norm(vectors_matrix(held), axis=1)
    off = float(np.abs(norms - 1).max()) if len(norms) else 0.0
    ids = index.column("text_id").to_pylist()
    distinct = set(step.table("chunked_nodes", ("node_id",)).column("node_id").to_pylist())
    found = pc.is_in(index.column("row_key"), held.column("row_key").combine_chunks())
    complete = len(ids) == len(distinct) and distinct == set(ids) and pc.all(found).as_py()
    return CheckResult(off < 1e-3 and complete, {"largest_deviation": off, "vectors": len(ids)})


def _gold_found(artifact: Artifact, step: Step) -> CheckResult:
    left_out = {k: v for k, v in artifact.facts.items() if k.startswith("left_out_")}
    return CheckResult(not left_out, {**left_out, "questions": artifact.table().num_rows})


def _metrics_sane(artifact: Artifact, step: Step) -> CheckResult:
    table = artifact.table()
    outside = 0
    for metric in METRICS:
        values = table.column(metric).to_numpy()
        outside += int((~((values >= 0) & (values <= 1 + 1e-9))).sum())
    return CheckResult(outside == 0 and table.num_rows > 0, {"values_outside_0_to_1": outside})


def _chats_whole(artifact: Artifact, step: Step) -> CheckResult:
    """Count chats that do not end with an answer, or whose source is not where they say."""
    broken = 0
    for row in artifact.table().to_pylist():
        last, source = row["messages"][-1], row["source"]
        placed = not source or row["passages"][source - 1] == row["node_id"]
        broken += not (placed and last["role"] == "assistant" and last["content"].strip())
    return CheckResult(broken == 0, {"broken": broken, "chats": artifact.table().num_rows})


def _live_is_champion(artifact: Artifact, step: Step) -> CheckResult:
    if artifact.facts["event"] == "none":
        return CheckResult(True, {"targets": 0})
    from ragft_pipeline.publishing.champion import live_bundles, served_bundle

    served = served_bundle(step.store).digest
    live = live_bundles(step.settings, step.store)
    return CheckResult(all(found == served for found in live.values()), {"served": served, **live})


CHECKS: dict[str, list[Check]] = {
    "corpus_snapshot": [NOT_EMPTY],
    "chunked_nodes": [
        NOT_EMPTY,
        Check("nodes_hold_text", "No node is empty.", _nodes_hold_text),
        Check("no_leak_between_splits", "No text stands in two splits.", _no_leak),
    ],
    "gold_questions": [
        Check(
            "answers_found", "Every gold question's answer is in its document.", _gold_found, False
        ),
    ],
    **{
        f"{split}_qa_pairs": [
            Check(
                "questions_asked", "No empty question, none about another split.", _questions_asked
            )
        ]
        for split in SPLITS
    },
    **{
        f"{split}_chats": [
            Check(
                "chats_whole",
                "Every chat ends with an answer, and shows its source where it says.",
                _chats_whole,
            )
        ]
        for split in SPLITS
    },
    "node_embeddings": [
        Check("unit_vectors", "Every node has one vector, of length 1.", _unit_vectors)
    ],
    "published_index": [
        Check(
            "live_is_champion",
            "Every target's live generation is the champion's.",
            _live_is_champion,
            False,
        )
    ],
    "retrieval_eval": [Check("metrics_sane", "Every metric is between 0 and 1.", _metrics_sane)],
}
