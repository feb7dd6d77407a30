"""Tuned late interaction: how a question's tokens are counted and mapped; passages stay.

Two cheap recipes over frozen token vectors. `idf` counts a token by a power of its inverse
frequency in the train nodes; `map` trains a linear map of the question's token vectors, identity at
the start, by a softmax over each question's candidates towards its source and the teacher. Val
chooses the strength, 0 (no tuning) among them, by the one-standard-error rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.late_interaction import LateInteraction, QuestionTuning
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.retrieval.maxsim import TokenRows, best_cosines
from ragft_pipeline.retrieval.metrics import PRIMARY, mean_of, score_rankings, smallest_sufficient
from ragft_pipeline.retrieval.reranking import blend
from ragft_pipeline.retrieval.token_vectors import (
    cached_tokens,
    encode_tokens,
    rotation,
    text_key,
)
from ragft_pipeline.settings import LateInteractionSettings, Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.tuning.candidates import hybrid_candidates
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.data import Questions, TrainingTables, Validation

_LOADING = """
from ragft_pipeline.retrieval.late_interaction import LateInteraction
from ragft_pipeline.settings import load_settings
settings = load_settings()
late = LateInteraction.load(THIS_FOLDER, settings.embedder, settings.compute)
scores = late.score([(question, passage)])
"""


def tune_late_interaction(
    tables: TrainingTables,
    teacher: pa.Table,
    statistics: TermStatistics,
    settings: Settings,
    work: Workspace,
) -> dict[str, Any]:
    """Tune over the base embedder and save into the workspace's model folder.

    With strength 0 the folder holds the card alone, and `LateInteraction.load` gives zero-shot.

    Args:
        teacher: TEACHER_SCORES of the train questions over the train nodes.
        statistics: of the corpus, for BM25 among the val nodes.

    Returns facts: the chosen strength and val nDCG@10 of the blended candidates before and after.
    """
    recipe = settings.late_interaction
    encoder = Encoder.base(settings.embedder, settings.compute)
    val = tables.validation(recipe.val_questions)
    stored = cached_tokens(work, encoder, list(val.nodes.values()), recipe.bits)
    strengths = [0.0]
    choices: list[QuestionTuning | None] = [None]
    if recipe.recipe != "none":
        strengths = _strengths(recipe)
        whole = _whole_tuning(tables, teacher, encoder, settings, work)
        choices = [shrink(whole, strength) for strength in strengths]
    candidates, first = hybrid_candidates(val, statistics, recipe.depth, encoder, work)
    scores = [
        _val_ndcg(LateInteraction(encoder, choice, stored), val, candidates, first)
        for choice in choices
    ]
    best = smallest_sufficient(strengths, scores)
    zero_shot = scores[strengths.index(0.0)]
    work.model.mkdir(parents=True, exist_ok=True)
    if (chosen := choices[best]) is not None:
        chosen.save(work.model)
    facts = {
        "strength": strengths[best],
        "bytes_a_passage": round(stored.codes.nbytes / max(1, len(stored))),
        "val_ndcg_at_10_zero_shot": mean_of(zero_shot),
        "val_ndcg_at_10": mean_of(scores[best]),
    }
    write_card(
        work.model,
        f"Late interaction ({recipe.recipe}) over {settings.embedder.model}",
        "MaxSim over token vectors of a frozen embedder; tuning is on the question's side.",
        {"base_digest": encoder.weights.digest, **facts, **recipe.model_dump(mode="json")},
        _LOADING,
    )
    return facts


def _strengths(recipe: LateInteractionSettings) -> list[float]:
    """Return the strengths in order of caution.

    Inverse frequencies are counted, not learned, so their whole strength is the cautious choice; a
    trained map's is none of it.
    """
    return sorted({0.0, *recipe.strengths}, reverse=recipe.recipe == "idf")


def _whole_tuning(
    tables: TrainingTables, teacher: pa.Table, encoder: Encoder, settings: Settings, work: Workspace
) -> QuestionTuning:
    if settings.late_interaction.recipe == "map":
        return _trained_map(tables, teacher, encoder, settings, work)
    frequency = token_frequency(encoder, list(tables.nodes().values()))
    return QuestionTuning(encoder.weights.digest, weights=frequency)


def token_frequency(encoder: Encoder, passages: Sequence[str]) -> np.ndarray:
    """Return Lucene's inverse frequency of every token id, float32 of shape (vocabulary,)."""
    tokenizer = encoder.model.tokenizer
    found = np.zeros(len(tokenizer))
    for text in passages:
        ids = tokenizer(text, truncation=True, add_special_tokens=False)["input_ids"]
        found[np.unique(np.array(ids, np.int64))] += 1
    return np.log(1 + (len(passages) - found + 0.5) / (found + 0.5)).astype(np.float32)


def shrink(tuning: QuestionTuning, strength: float) -> QuestionTuning | None:
    """Return a share of the tuning: weights to a power, a map drawn towards the identity."""
    if strength == 0:
        return None
    weights = None if tuning.weights is None else tuning.weights**strength
    drawn = None
    if tuning.map is not None:
        identity = np.eye(len(tuning.map), dtype=np.float32)
        drawn = identity + np.float32(strength) * (tuning.map - identity)
    return QuestionTuning(tuning.base_digest, weights, drawn)


def _val_ndcg(
    late: LateInteraction, val: Validation, candidates: np.ndarray, first: np.ndarray
) -> np.ndarray:
    if not candidates.size:
        return np.zeros(0)
    passages = list(val.nodes.values())
    pairs = [
        (question, passages[node])
        for question, row in zip(val.questions.texts, candidates)
        for node in row
    ]
    mixed = blend(first, late.score(pairs).reshape(candidates.shape), 0.5)
    ranked = np.take_along_axis(candidates, np.argsort(-mixed, axis=1, kind="stable"), axis=1)
    return score_rankings(ranked, val.relevant())[PRIMARY]


def _trained_map(
    tables: TrainingTables, teacher: pa.Table, encoder: Encoder, settings: Settings, work: Workspace
) -> QuestionTuning:
    """Return the map at full strength. Source first, a list is the teacher's best and a few more.

    Vectors are compared in the rotated space of the stored passages.
    """
    import torch
    from torch.nn import functional

    recipe = settings.late_interaction
    questions, nodes = tables.questions(recipe.max_questions), tables.nodes()
    tokens = encode_tokens(encoder, questions.texts, "query")
    stored = cached_tokens(work, encoder, list(nodes.values()), recipe.bits)
    lists = _lists(questions, teacher, settings)
    keys = {node_id: text_key(text) for node_id, text in nodes.items()}
    device = encoder.device
    own = torch.from_numpy(tokens.vectors).to(device).split(tokens.lengths.tolist())
    order = np.random.default_rng(recipe.seed)
    width = tokens.vectors.shape[1]
    turn = torch.from_numpy(rotation(width)).to(device)
    matrix = torch.eye(width, device=device, requires_grad=True)
    usable = [row for row in range(len(questions)) if len(own[row])]
    steps = recipe.epochs * -(-len(usable) // recipe.batch_size)
    optimiser = torch.optim.AdamW([matrix], lr=recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=max(2, steps), pct_start=0.1
    )
    for epoch in range(recipe.epochs):
        shuffled = order.permutation(usable)
        total = torch.zeros((), device=device)
        for start in range(0, len(shuffled), recipe.batch_size):
            batch = shuffled[start : start + recipe.batch_size]
            optimiser.zero_grad()
            for row in batch:
                node_ids, scores = lists[row]
                rows = [stored.rows[keys[node_id]] for node_id in node_ids]
                shown = TokenRows(stored.vectors_on(device, rows), stored.lengths[rows])
                places, there = shown.places(np.arange(len(rows)))
                mapped = functional.normalize(own[row] @ matrix, dim=1) @ turn
                late = best_cosines(mapped[None], shown.vectors[places], there).mean(dim=1)
                student = functional.log_softmax(late / recipe.student_temperature, dim=0)
                taught = torch.from_numpy(scores).to(device)
                wanted = torch.softmax(taught / recipe.teacher_temperature, 0)
                distil = functional.kl_div(student, wanted, reduction="sum")
                share = recipe.teacher_weight
                loss = (share * distil - (1 - share) * student[0]) / len(batch)
                loss.backward()
                total += loss.detach() * len(batch)
            optimiser.step()
            schedule.step()
        work.progress(
            f"late_interaction: epoch {epoch + 1}/{recipe.epochs}, "
            f"loss {float(total) / max(1, len(usable)):.4f}"
        )
    return QuestionTuning(encoder.weights.digest, map=matrix.detach().cpu().numpy())


def _lists(
    questions: Questions, teacher: pa.Table, settings: Settings
) -> list[tuple[list[str], np.ndarray]]:
    """Return each question's candidates, its source first, and the teacher's scores of them."""
    recipe = settings.late_interaction
    rows = {row["question_id"]: row for row in teacher.to_pylist()}
    draw = np.random.default_rng(recipe.seed)
    lists = []
    for question_id, source in zip(questions.ids, questions.node_ids):
        row = rows[question_id]
        scores = np.asarray(row["scores"], np.float32)
        names = np.array(row["node_ids"], dtype=object)
        others = np.flatnonzero(names != source)
        rest = others[recipe.hard_negatives :]
        chosen = [
            np.flatnonzero(names == source),
            others[: recipe.hard_negatives],
            draw.permutation(rest)[: recipe.random_negatives],
        ]
        picked = np.concatenate(chosen)
        lists.append((names[picked].tolist(), scores[picked]))
    return lists
