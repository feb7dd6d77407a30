"""A question of people is asked of the router that no question of its fold had a part in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from ragft_pipeline import schemas
from ragft_pipeline.retrieval.adapters import Adapter, linear_adapter
from ragft_pipeline.retrieval.folds import folds_of
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.retrieval.question_sets import SERVED, SYNTHETIC
from ragft_pipeline.routing.catalog import ToolDocument, make_catalog
from ragft_pipeline.routing.evaluation import ROUTER, RoutingData, evaluate_routing
from ragft_pipeline.routing.index_kinds import KindClassifier
from ragft_pipeline.routing.router import Choice, Router
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace

THINGS = ["strainer", "boiler", "belt", "archive", "ferry", "canteen", "signal", "quay"]
TEXTS = [f"The {thing} is looked after on Mondays." for thing in THINGS]
SURE = Choice(0.7, 0.005, 0.9, 3, 0.2)
UNSURE = replace(SURE, temperature=0.5)


def data(work: Workspace, people: int) -> RoutingData:
    """Return as many documents as things, each with a question of people's and a synthetic one."""
    documents = [
        ToolDocument(f"k{n}", f"{n}.md", thing, f"c{n}", "test", [f"n{n}"], [""], [text])
        for n, (thing, text) in enumerate(zip(THINGS, TEXTS))
    ]
    whole = [
        {"node_id": f"n{n}", "doc_key": f"k{n}", "start_char": 0, "end_char": len(text)}
        for n, text in enumerate(TEXTS)
    ]
    gold = [
        {"question_id": f"q{n}", "question": f"who cares for the {thing}?", "doc_key": f"k{n}",
         "cluster": f"c{n}", "split": "train", "answers": [], "whole": [f"k{n}"]}
        for n, thing in enumerate(THINGS)
    ]  # fmt: skip
    pairs = [
        {"question_id": f"s{n}", "question": f"when is the {thing} seen to?", "kind": "question",
         "node_id": f"n{n}", "doc_key": f"k{n}", "cluster": f"c{n}", "answer_start": 0,
         "answer_end": 3}
        for n, thing in enumerate(THINGS)
    ]  # fmt: skip

    def table(rows: list[dict[str, object]], of: schemas.Table) -> pa.Table:
        return pa.Table.from_pylist(rows, schema=of.schema)

    return RoutingData(
        documents,
        table(whole, schemas.NODES),
        make_catalog(documents, TermStatistics.of(TEXTS), {}, work),
        schemas.ROUTER_QUESTIONS.schema.empty_table(),
        table(pairs, schemas.QA_PAIRS),
        table(gold[:people], schemas.GOLD_QUESTIONS),
    )


def test_every_question_is_scored_by_its_folds_choice_and_synthetic_ones_only_of_need(
    tmp_path: Path,
) -> None:
    settings = Settings.model_validate({"evaluation": {"min_gold": 4}})
    work = Workspace(ArtifactStore(tmp_path), "router_eval", tmp_path)
    kinds = KindClassifier(np.zeros((389, 3), np.float32), np.zeros(3, np.float32))
    folds = folds_of([f"c{n}" for n in range(len(THINGS))]).tolist()
    other = folds[0]
    sure = Router(Adapter("base", linear_adapter(torch.eye(384))), kinds, SURE)
    router = replace(sure, folds={str(other): UNSURE})
    rows = evaluate_routing(data(work, len(THINGS)), router, {}, settings, work).to_pylist()
    assert {row["question_set"] for row in rows} == {SERVED}
    found = {row["question_id"]: row for row in rows if row["system"] == ROUTER}
    assert len(found) == len(THINGS) > folds.count(other)
    for n, fold in enumerate(folds):
        row = found[f"q{n}"]
        assert (row["confidence"] < 0.6) == (fold == other)
        assert (row["first_rank"], row["relevant"]) == (1, [f"n{n}"])
    rows = evaluate_routing(data(work, 3), router, {}, settings, work).to_pylist()
    assert {row["question_set"] for row in rows} == {SERVED, SYNTHETIC}
