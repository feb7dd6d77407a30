"""The evaluation of retrieval: every system on every question set, a row a question a system.

People's questions are put to what a release serves (`as served`): each is scored by weights and by
a choice between systems that no question of its fold had a part in. Those about held-out documents
are put once more to the models that never saw these (`tomorrow's documents`). Where people ask too
little, synthetic questions are put to the shipped system, and decide nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.choosing import (
    Choice,
    Choices,
    CrossFit,
    System,
    legible,
    out_of_fold,
    prior_choice,
)
from ragft_pipeline.evaluation.latency import keep_latency, measure_latency
from ragft_pipeline.evaluation.names import CANDIDATE
from ragft_pipeline.evaluation.nodes import Nodes
from ragft_pipeline.evaluation.question_pools import KeptPools
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.evaluation.second_stages import UNTUNED_CROSS_ENCODER_RANKER
from ragft_pipeline.evaluation.significance import units_of
from ragft_pipeline.evaluation.systems import BASE, BM25, hybrid_name
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.retrieval.question_sets import (
    SERVED,
    SYNTHETIC,
    TOMORROW,
    QuestionSet,
    RelevanceIndex,
    first_asked,
    gold_set,
    nodes_asked_about,
    synthetic_set,
    unseen,
)
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace


@dataclass(frozen=True)
class EvaluationData:
    """The tables an evaluation reads; of what questions were trained on, `question` alone."""

    nodes: Nodes
    test_pairs: pa.Table
    train_pairs: pa.Table
    gold: pa.Table


def evaluate_retrieval(
    data: EvaluationData,
    released: Models,
    measured: Models,
    settings: Settings,
    work: Workspace,
    kept: KeptPools | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the EVAL_ROWS table and facts (counts).

    The artifact also gets the LATENCY table, the choices as JSON, and the pools of the questions.

    Args:
        released: what a release serves, trained on all documents.
        measured: the same, trained without the test documents.
        kept: the pools of an earlier version, by the same models.
    """
    trial = Trial.of("released", data.nodes, released, settings, work, kept)
    people = peoples_questions(data, settings)
    enough = len(people) >= settings.evaluation.min_gold
    asked = {SERVED: people, TOMORROW: tomorrows(people)}
    synthetic, telling, dropped = synthetic_questions(data, settings)
    if not enough:
        asked[SYNTHETIC] = synthetic
    asked = {name: questions for name, questions in asked.items() if len(questions)}
    if not asked:
        raise RagftError(
            "retrieval_eval: there is no question to measure with; add documents, loosen "
            "questions.* in ragft.yaml, or give gold questions"
        )
    unseeing = trial
    if measured != released:
        unseeing = Trial.of("measured", data.nodes, measured, settings, work, kept)
    share = legible(trial.measure(telling, only=(BASE, BM25))) if len(telling) else 1.0
    trial.legible = unseeing.legible = share
    if share < 1:
        work.progress(
            "the base embedder hardly finds passages by their own words: what rests on it "
            f"begins at {share:.2f} of its usual weight"
        )
    trials = {SERVED: trial, TOMORROW: unseeing, SYNTHETIC: unseeing}
    systems = {name: trials[name].measure(questions) for name, questions in asked.items()}
    if enough:
        start = time.monotonic()
        choices = _chosen(systems[SERVED], people, trial)
        trial.ranker_seconds += time.monotonic() - start
        work.progress(f"{choices.whole.system}, chosen by {len(people)} questions of people")
    else:
        choices = prior_choice(next(iter(systems.values())), trial.prior)
    choices.save(work.folder)
    rows = [
        part
        for name, questions in asked.items()
        for part in rows_of(trials[name], questions, systems[name], choices)
    ]
    tried = [trial] if unseeing is trial else [trial, unseeing]
    facts: dict[str, Any] = {}
    if kept is not None and all(each.followed for each in tried):
        keep_latency(kept.folder, work)
        facts["latency_of"] = kept.timed
    else:
        first = next(iter(asked.values())).texts[: settings.evaluation.latency_queries]
        measure_latency(trial, choices.whole, first, work)
    for each in tried:
        each.save()
    for line in _passed_over(data, trial, people, settings):
        work.progress(line)
    counts = {f"questions_{name}": len(questions) for name, questions in asked.items()}
    counts["people_left_out"] = data.gold.num_rows - len(people)
    facts |= {**counts, **(trial.whole.stages.index_facts if trial.approximate else {})}
    facts |= {"nodes": len(data.nodes), "dropped_seen_in_training": 0 if enough else dropped}
    facts["ranker_seconds"] = round(sum(each.ranker_seconds for each in tried), 3)
    return pa.concat_tables(rows), facts


def _passed_over(
    data: EvaluationData, trial: Trial, people: QuestionSet, settings: Settings
) -> Iterator[str]:
    """Say which questions and systems are not measured."""
    if left := data.gold.num_rows - len(people):
        yield (
            f"{left} of people's questions are not asked: no passage answers them, or they are "
            f"over evaluation.max_questions ({settings.evaluation.max_questions})"
        )
    most = settings.evaluation.max_reranked
    if trial.cross_encoders and len(people) > most:
        yield (
            f"the cross-encoder is not measured: {len(people)} of people's questions are over "
            f"evaluation.max_reranked ({most})"
        )


def rows_of(
    trial: Trial, questions: QuestionSet, systems: list[System], choices: Choices
) -> list[pa.Table]:
    """Return the rows of every system, and of what the folds chose as the system `candidate`."""
    by_name = {system.name: system for system in systems}

    def scored(name: str | None) -> pa.Table:
        def found(choice: Choice, rows: np.ndarray) -> Any:
            system = by_name[name or choice.system]
            return system.found(choice.weights[system.name], rows)

        results = out_of_fold(choices, questions.clusters, found)
        return trial.rows(questions, name or CANDIDATE, results)

    return [scored(name) for name in (None, *by_name)]


def peoples_questions(data: EvaluationData, settings: Settings) -> QuestionSet:
    """Return the people's questions that some node answers, at most `evaluation.max_questions`."""
    rows = nodes_asked_about(data.nodes.rows, data.gold, data.test_pairs.slice(0, 0))
    index = RelevanceIndex(rows, data.nodes.places(rows))
    return gold_set(SERVED, data.gold, index).first(settings.evaluation.max_questions)


def tomorrows(people: QuestionSet) -> QuestionSet:
    """Return the questions about documents that trained nothing."""
    return replace(people.at(np.flatnonzero(people.held_out)), name=TOMORROW)


def served_names(systems: Sequence[System], trial: Trial) -> list[str]:
    """Return the names of what can be served: the base embedder, hybrids and rankers."""
    first = [hybrid_name(each.name) for each in trial.retrievers]
    return [
        system.name
        for system in systems
        if system.name == BASE
        or (
            system.name.split(" + ")[0] in first
            and not system.name.endswith(UNTUNED_CROSS_ENCODER_RANKER)
        )
    ]


def _chosen(systems: list[System], people: QuestionSet, trial: Trial) -> Choices:
    units = units_of(people.clusters, people.relevant)
    served = served_names(systems, trial)
    return CrossFit(systems, served, people.clusters, units, trial.prior).choices()


def synthetic_questions(
    data: EvaluationData, settings: Settings
) -> tuple[QuestionSet, QuestionSet, int]:
    """Return synthetic questions about test documents, and how many stand in train as well.

    Those that are asked, and others that tell how far the base embedder reads (`legible`): no
    question is scored by weights that it had a part in.
    """
    pairs = unseen(data.test_pairs, data.train_pairs)
    dropped = data.test_pairs.num_rows - pairs.num_rows
    number = 2 * settings.evaluation.max_synthetic
    pairs = first_asked(pairs, number)
    rows = nodes_asked_about(data.nodes.rows, data.gold.slice(0, 0), pairs)
    column = data.nodes.places(rows)
    questions = synthetic_set(SYNTHETIC, pairs, RelevanceIndex(rows, column), column, True)
    drawn = questions.first(number)
    asked, telling = (drawn.at(range(start, len(drawn), 2)) for start in (0, 1))
    return asked, telling, dropped
