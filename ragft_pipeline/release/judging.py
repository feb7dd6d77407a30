"""Candidate and champion on the same questions: what the gate is given to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.evaluation.choosing import Choices
from ragft_pipeline.evaluation.claim import Paired
from ragft_pipeline.evaluation.names import CANDIDATE
from ragft_pipeline.evaluation.retrieval_eval import (
    EvaluationData,
    peoples_questions,
    rows_of,
    tomorrows,
)
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.evaluation.summary import EvaluationRows
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.release.gate import Judgement, judge
from ragft_pipeline.retrieval.question_sets import SERVED, TOMORROW, QuestionSet
from ragft_pipeline.serving.bundle import Bundle
from ragft_pipeline.serving.configuration import ASSETS
from ragft_pipeline.serving.router_files import RoutingParts
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace

CHAMPION = "champion"


@dataclass(frozen=True)
class Candidate:
    """What a corpus version offers.

    Attributes:
        version: the corpus version.
        rows: its EVAL_ROWS.
        choices: what its evaluation chose.
        data: the tables it was measured on.
        nodes: where its NODES table lies.
        released: the models to serve.
        actions: the action of each measured model, by asset.
        paths: the path of each document, by doc_key.
        routing: the version's router and tools; None where it has none.
        metadata: what each document says about itself, as JSON, by doc_key.
    """

    version: str
    rows: pa.Table
    choices: Choices
    data: EvaluationData
    nodes: Path
    released: Models
    actions: dict[str, str]
    paths: dict[str, str]
    routing: RoutingParts | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def judge_untuned(
    candidate: Candidate, fresh: Bundle, untuned: Bundle, settings: Settings
) -> Judgement:
    """Judge a candidate against the untuned hybrid, which the same evaluation measured."""
    name = untuned.configuration.name
    rows = pa.concat_tables([candidate.rows, as_system(candidate.rows, name, CHAMPION)])
    compared = EvaluationRows(rows, settings.evaluation)
    return _judged(compared, [_tomorrow(compared)], (fresh, untuned), 0, settings)


def judge_champion(
    candidate: Candidate,
    fresh: Bundle,
    champion: Bundle,
    known: frozenset[str],
    judged_before: int,
    settings: Settings,
    work: Workspace,
) -> Judgement:
    """Judge a candidate's bundle against the champion's, both over the candidate's documents.

    The champion's questions are scored by the weights that their folds had no part in either.

    Args:
        known: the nodes that the champion searched before; questions about these alone are a set
            of their own.
    """
    own = champion.settings(settings.compute)
    own = own.model_copy(update={"evaluation": settings.evaluation})
    trial = Trial.of(CHAMPION, candidate.data.nodes, champion.models, own, work)
    people = peoples_questions(candidate.data, settings)
    rows = [candidate.rows, _champion_rows(trial, people, champion)]
    measured = measured_models(champion, work.store)
    if measured is not None and len(later := tomorrows(people)):
        unseeing = Trial.of(CHAMPION, candidate.data.nodes, measured, own, work)
        rows.append(_champion_rows(unseeing, later, champion))
    compared = EvaluationRows(pa.concat_tables(rows), settings.evaluation)
    others, old = [_tomorrow(compared)], _about(known, candidate.rows)
    if settings.evaluation.min_gold <= len(old) < len(people):
        ours, theirs = (compared.scores(SERVED, name) for name in (CANDIDATE, CHAMPION))
        unchanged = {question: score for question, score in ours.items() if question in old}
        others.append(Paired.of("unchanged documents'", unchanged, theirs))
    return _judged(compared, others, (fresh, champion), judged_before, settings)


def _judged(
    compared: EvaluationRows,
    others: Sequence[Paired],
    bundles: tuple[Bundle, Bundle],
    judged_before: int,
    settings: Settings,
) -> Judgement:
    served = compared.paired(SERVED, CANDIDATE, CHAMPION, "people's")
    asked = compared.rows.column("question").unique().to_pylist()
    questions = asked[: settings.gate.latency_queries]
    latency = _medians([Searcher(bundle, settings.compute) for bundle in bundles], questions)
    return judge(served, others, latency, judged_before, settings.gate, settings.evaluation)


def _tomorrow(compared: EvaluationRows) -> Paired:
    return compared.paired(TOMORROW, CANDIDATE, CHAMPION, "people's held-out")


def _champion_rows(trial: Trial, questions: QuestionSet, champion: Bundle) -> pa.Table:
    name = champion.configuration.name
    systems = trial.measure(questions, only=(name,))
    rows = pa.concat_tables(rows_of(trial, questions, systems, champion.configuration.choices))
    return as_system(rows, name, CHAMPION)


def _about(known: frozenset[str], rows: pa.Table) -> frozenset[str]:
    """Return the questions that known nodes answer, and no others."""
    asked = rows.select(["question_id", "relevant"]).to_pylist()
    return frozenset(row["question_id"] for row in asked if known.issuperset(row["relevant"]))


def measured_models(bundle: Bundle, store: ArtifactStore) -> Models | None:
    """Return the measured models behind a bundle's parts; None where one left the store."""
    folders: dict[str, Path] = {}
    for part in bundle.configuration.parts:
        artifact = store.find(ASSETS[part], bundle.measured[ASSETS[part]])
        if artifact is None:
            return None
        folders[part] = artifact.model
    return Models(**folders)


def as_system(rows: pa.Table, system: str, name: str) -> pa.Table:
    """Return one system's EVAL_ROWS under another name."""
    rows = rows.filter(pc.equal(rows.column("system"), system))
    column = rows.schema.get_field_index("system")
    names = pa.array([name] * rows.num_rows, pa.string())
    return rows.set_column(column, rows.schema.field(column), names)


def _medians(searchers: Sequence[Searcher], questions: Sequence[str]) -> tuple[float, float]:
    times: list[list[float]] = [[], []]
    for question in (*questions[:1], *questions):  # the first one warms up
        for row, searcher in enumerate(searchers):
            start = perf_counter()
            searcher.search(question)
            times[row].append((perf_counter() - start) * 1000)
    ours, theirs = (median(found[1:]) for found in times)
    return ours, theirs
