"""Candidate and champion on the same questions: what the gate is given to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.evaluation.choosing import Choices
from ragft_pipeline.evaluation.retrieval_eval import EvaluationData, question_sets
from ragft_pipeline.evaluation.summary import EvaluationRows, primary_set
from ragft_pipeline.evaluation.trial import Models, Trial
from ragft_pipeline.release.gate import Judgement, Paired, judge
from ragft_pipeline.serving.bundle import Bundle, RoutingParts
from ragft_pipeline.serving.configuration import ASSETS
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace

_PEOPLE = "gold_test"


@dataclass(frozen=True)
class Candidate:
    """What a corpus version offers.

    Attributes:
        version: the corpus version.
        rows: EVAL_ROWS of the measured models.
        choices: the weights that evaluation chose.
        data: the tables it was measured on.
        released: the models to serve.
        actions: the action of each measured model, by asset.
        paths: the path of each document, by doc_key.
        routing: the version's router and tools; None where it has none.
    """

    version: str
    rows: pa.Table
    choices: Choices
    data: EvaluationData
    released: Models
    actions: dict[str, str]
    paths: dict[str, str]
    routing: RoutingParts | None = None


def measured_models(bundle: Bundle, store: ArtifactStore) -> Models | None:
    """Return the measured models behind a bundle's parts; None where one left the store."""
    folders: dict[str, Path] = {}
    for part in bundle.configuration.parts:
        artifact = store.find(ASSETS[part], bundle.measured[ASSETS[part]])
        if artifact is None:
            return None
        folders[part] = artifact.model
    return Models(**folders)


def judge_bundles(
    candidate: Candidate,
    fresh: Bundle,
    champion: Bundle,
    measured: Models,
    known: frozenset[str],
    judged_before: int,
    settings: Settings,
    work: Workspace,
) -> Judgement:
    """Judge a candidate's bundle against the champion's, both over the candidate's documents.

    Args:
        measured: the measured models behind the champion.
        known: the nodes that the champion searched before; questions about these alone are a set
            of their own.
    """
    theirs = champion.configuration
    own = champion.settings(settings.compute)
    own = own.model_copy(update={"evaluation": settings.evaluation})
    trial = Trial.of(candidate.data.nodes, theirs.models(measured), own, work)
    sets, _ = question_sets(candidate.data, trial, settings)
    rows = pa.concat_tables(
        [
            as_system(candidate.rows, fresh.configuration.name, "candidate"),
            as_system(trial.rows(sets, theirs.choices), theirs.name, "champion"),
        ]
    )
    compared = EvaluationRows(rows, settings.evaluation)
    primary = primary_set(EvaluationRows(candidate.rows, settings.evaluation))
    pairs = [paired(name, name, compared) for name in (_PEOPLE,) if name != primary]
    if known:
        old = frozenset(
            row["question_id"]
            for row in candidate.rows.select(["question_id", "relevant"]).to_pylist()
            if known.issuperset(row["relevant"])
        )
        unchanged = paired("unchanged documents'", primary, compared, old)
        if len(unchanged) < len(paired(primary, primary, compared)):
            pairs.append(unchanged)
    others = [pair for pair in pairs if len(pair) >= settings.evaluation.min_gold]
    questions = next(iter(sets.values())).texts[: settings.gate.latency_queries]
    latency = _medians(
        [Searcher(bundle, settings.compute) for bundle in (fresh, champion)], questions
    )
    return judge(
        paired(primary, primary, compared), others, latency, judged_before, settings.gate,
        settings.evaluation,
    )  # fmt: skip


def as_system(rows: pa.Table, system: str, name: str) -> pa.Table:
    """Return one system's EVAL_ROWS under another name."""
    rows = rows.filter(pc.equal(rows.column("system"), system))
    column = rows.schema.get_field_index("system")
    names = pa.array([name] * rows.num_rows, pa.string())
    return rows.set_column(column, rows.schema.field(column), names)


def paired(
    title: str, question_set: str, rows: EvaluationRows, among: frozenset[str] | None = None
) -> Paired:
    """Return the scores of the systems `candidate` and `champion` on the questions both answered.

    Args:
        among: leaves out all other questions.
    """
    left, right = (rows.scores(question_set, name) for name in ("candidate", "champion"))
    shared = sorted(q for q in left.keys() & right.keys() if among is None or q in among)
    return Paired(
        title,
        np.array([left[q][0] for q in shared]),
        np.array([right[q][0] for q in shared]),
        [left[q][1] for q in shared],
    )


def _medians(searchers: Sequence[Searcher], questions: Sequence[str]) -> tuple[float, float]:
    times: list[list[float]] = [[], []]
    for question in (*questions[:1], *questions):  # the first one warms up
        for row, searcher in enumerate(searchers):
            start = perf_counter()
            searcher.search(question)
            times[row].append((perf_counter() - start) * 1000)
    ours, theirs = (median(found[1:]) for found in times)
    return ours, theirs
