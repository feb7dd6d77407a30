"""The evaluation of retrieval: every system on every question set, a row a question a system.

Choices (fusion weights, second stages' weights) are made on questions that never report; test
sets only report.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.choosing import PEOPLE, Choices
from ragft_pipeline.evaluation.latency import measure_latency
from ragft_pipeline.evaluation.trial import Models, Trial
from ragft_pipeline.retrieval.question_sets import (
    QuestionSet,
    RelevanceIndex,
    gold_set,
    in_own_words,
    synthetic_set,
    unseen,
)
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace

CHOICES_FILE = "choices.json"


def read_choices(folder: Path) -> Choices:
    """Return the choices that an evaluation's artifact folder holds."""
    return Choices(**json.loads((folder / CHOICES_FILE).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class EvaluationData:
    """The tables an evaluation reads."""

    nodes: pa.Table
    val_pairs: pa.Table
    test_pairs: pa.Table
    train_pairs: pa.Table
    gold: pa.Table


def evaluate_retrieval(
    data: EvaluationData, models: Models, settings: Settings, work: Workspace
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the EVAL_ROWS table and facts (counts).

    The artifact also gets the LATENCY table and the choices as JSON.
    """
    trial = Trial.of(data.nodes, models, settings, work)
    sets, dropped = question_sets(data, trial, settings)
    if not sets:
        raise RagftError(
            "retrieval_eval: there is no question to measure with; add documents, loosen "
            "questions.* in ragft.yaml, or give gold questions"
        )
    choosing = choosing_set(sets, data, trial, settings)
    choices = trial.choose(choosing)
    work.progress(f"chosen on {len(choosing)} {choosing.name} questions: {choices.fusion_weights}")
    rows = trial.rows(sets, choices)
    (work.folder / CHOICES_FILE).write_text(json.dumps(choices.to_json()), encoding="utf-8")
    measure_latency(
        trial.stages, choices, trial.second_stages, trial.evidence, sets, settings, work
    )
    counts = {f"questions_{name}": len(questions) for name, questions in sets.items()}
    facts: dict[str, Any] = {**counts, **trial.stages.index_facts}
    facts |= {"nodes": len(trial.node_ids), "dropped_seen_in_training": dropped}
    facts["ranker_seconds"] = round(trial.ranker_seconds, 3)
    return rows, facts


def evaluate_refit(
    nodes: pa.Table,
    gold: pa.Table,
    models: Models,
    choices: Choices,
    settings: Settings,
    work: Workspace,
) -> pa.Table:
    """Return EVAL_ROWS of refitted models on people's questions, with choices made before.

    The refit has seen every document (never a question), so no row is held out.
    """
    trial = Trial.of(nodes, models, settings, work)
    index = RelevanceIndex(nodes, trial.column)
    sets = [gold_set(f"gold_{part}", gold, part, index) for part in ("test", "dev")]
    seen = {questions.name: questions.all_seen() for questions in sets if len(questions)}
    return trial.rows(seen, choices) if seen else schemas.EVAL_ROWS.schema.empty_table()


def question_sets(
    data: EvaluationData, trial: Trial, settings: Settings
) -> tuple[dict[str, QuestionSet], int]:
    """Return the sets that have questions; test questions word for word in train are left out."""
    column = trial.column
    index = RelevanceIndex(data.nodes, column)
    test_pairs = unseen(data.test_pairs, data.train_pairs)
    limit = settings.evaluation.max_synthetic
    sets = [
        gold_set("gold_test", data.gold, "test", index),
        gold_set("gold_dev", data.gold, "dev", index),
        synthetic_set("synthetic_test", test_pairs, index, column, True).first(limit),
        synthetic_set("synthetic_val", data.val_pairs, index, column, False).first(limit),
    ]
    dropped = data.test_pairs.num_rows - test_pairs.num_rows
    return {questions.name: questions for questions in sets if len(questions)}, dropped


def choosing_set(
    sets: dict[str, QuestionSet], data: EvaluationData, trial: Trial, settings: Settings
) -> QuestionSet:
    """Return the questions that choose: people's dev questions, else synthetic val ones."""
    people = sets.get(PEOPLE, QuestionSet.empty())
    if len(people) >= settings.evaluation.min_gold:
        return people
    return own_words_set(data, trial, settings)


def own_words_set(data: EvaluationData, trial: Trial, settings: Settings) -> QuestionSet:
    """Return the val questions that may choose: those not cut out of their node word for word.

    Empty where they are fewer than `evaluation.min_gold`.
    """
    index = RelevanceIndex(data.nodes, trial.column)
    own_words = in_own_words(data.val_pairs)
    questions = synthetic_set("synthetic_val", own_words, index, trial.column, False)
    enough = len(questions) >= settings.evaluation.min_gold
    return questions.first(settings.evaluation.max_synthetic) if enough else QuestionSet.empty()
