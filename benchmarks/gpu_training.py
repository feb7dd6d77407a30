"""Stages of benchmarks.gpu that train encoders: towers and a cross-encoder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_bench import Bench, Row, computing_in, quiet, relative_error
from benchmarks.gpu_data import Lessons
from benchmarks.gpu_floor import Work, forward_operations, lengths_of, parameters_of, timed
from ragft_pipeline.models.devices import pick_device
from ragft_pipeline.models.weights import Weights, resolve_weights
from ragft_pipeline.retrieval.encoder import load_sentence_transformer, normalise_rows
from ragft_pipeline.retrieval.reranking import Reranker
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.settings import ComputeSettings, RerankerSettings, TunedEmbedderSettings
from ragft_pipeline.tuning.checkpoint import Checkpoint
from ragft_pipeline.tuning.reranker_lists import TrainingList
from ragft_pipeline.tuning.reranker_training import ListTraining
from ragft_pipeline.tuning.towers import Lesson, Towers, train_towers
from ragft_pipeline.tuning.training import set_weights, switch_off_dropout

_STEP_BYTES = 4 * 10  # a parameter: read twice, its gradient, AdamW's moments, all written
_RERANKED = 10
_LISTS = 64  # that a cross-encoder's training is compared on


@dataclass
class Killed(Checkpoint):
    """Keeps every step, and ends the training after some."""

    at: int = 0

    def keep(self, model: Any, optimiser: Any, losses: Sequence[Any]) -> None:
        """Write, and stop where it is time."""
        self._last = -math.inf
        super().keep(model, optimiser, losses)
        if len(losses) == self.at:
            raise InterruptedError


def towers(bench: Bench) -> Iterator[Row]:
    """Both towers in each number type, with and without `accumulate`, and after a kill."""
    compared, large = bench.sizes.step
    steps, many_steps = bench.sizes.steps
    few = bench.lessons(bench.texts.windows(compared * steps))
    small = (compared, steps) == (large, many_steps)
    many = few if small else bench.lessons(bench.texts.windows(large * many_steps))
    runs = [
        (dtype, accumulate) for dtype in ("float32", "bfloat16") for accumulate in (False, True)
    ]
    with computing_in("float32"):
        wanted = _Run.of(bench, bench.beside, few, compared, False)
    for dtype, accumulate in runs:
        with computing_in(dtype):
            found = _Run.of(bench, bench.here, few, compared, accumulate)
            timed_run = found if small else _Run.of(bench, bench.here, many, large, accumulate)
        yield Row(
            f"towers{', accumulated' if accumulate else ''}", dtype, "passages",
            relative_error(found.losses, wanted.losses), abs(found.ndcg - wanted.ndcg),
            len(many.passages) / timed_run.seconds, len(few.passages) / wanted.seconds,
            timed_run.seconds, timed_run.work, full=True,
        )  # fmt: skip
    with computing_in("float32"):
        resumed = _Run.of(bench, bench.here, few, compared, False, kill_at=1)
    error = relative_error(resumed.losses, wanted.losses)
    yield Row("towers, resumed", "float32", "", error, abs(resumed.ndcg - wanted.ndcg))


@dataclass(frozen=True)
class _Run:
    losses: np.ndarray
    ndcg: float
    seconds: float
    work: Work

    @classmethod
    def of(
        cls, bench: Bench, compute: ComputeSettings, lessons: Lessons, step: int, accumulate: bool,
        kill_at: int = 0,
    ) -> _Run:  # fmt: skip
        """Train one epoch; the clock runs for the training alone."""
        import torch

        recipe = TunedEmbedderSettings(batch_size=step, accumulate=accumulate, warmup=0.0)
        place = bench.folder / "towers" / "checkpoint.pt"
        base = bench.encoder(bench.beside).weights
        questions = lessons.questions
        lesson = Lesson(
            questions.texts, lessons.passages, np.arange(len(questions)), lessons.vectors,
            lessons.teacher,
        )  # fmt: skip
        device = pick_device(compute)

        def fresh() -> Towers:
            model = load_sentence_transformer(base, bench.settings.embedder, device, torch.float32)
            switch_off_dropout(model)
            return Towers(model, recipe, compute)

        made = fresh()
        if kill_at:
            try:
                train_towers(made, lesson, recipe, Killed(place, at=kill_at), quiet)
            except InterruptedError:
                made = fresh()
        checkpoint = Checkpoint(place)
        losses, seconds = timed(device, train_towers, made, lesson, recipe, checkpoint, quiet)
        checkpoint.discard()
        work = _towers_work(made.model, lesson, recipe, len(losses))
        return cls(np.array(losses), _ndcg(bench, made.model), seconds, work)


def _towers_work(model: Any, lesson: Lesson, recipe: TunedEmbedderSettings, steps: int) -> Work:
    texts = lesson.questions + lesson.passages
    lengths = lengths_of(model.tokenizer, texts, recipe.passage_tokens)
    passes = 4 if recipe.accumulate else 3  # a backward pass is two
    operations = passes * forward_operations(model.transformers_model, lengths)
    return Work(operations, steps * _STEP_BYTES * parameters_of(model))


def _ndcg(bench: Bench, model: Any) -> float:
    texts = bench.texts
    queries, passages = (
        normalise_rows(model.encode(part, convert_to_tensor=True).float().cpu().numpy())
        for part in (texts.questions, texts.passages)
    )
    return texts.ndcg(queries, passages)


def cross_encoder(bench: Bench) -> Iterator[Row]:
    """A small one, of the packaged embedder's first layers: scoring, then training."""
    recipe = RerankerSettings(model=bench.settings.embedder.model, layers=3, max_tokens=192)
    texts = bench.texts
    dense = bench.reference["query"] @ bench.reference["document"].T
    near = top_k(dense, _RERANKED)
    pairs = [
        (texts.questions[row], texts.passages[at]) for row, own in enumerate(near) for at in own
    ]
    lists = _lists(bench, texts.passages[:_LISTS])
    trained, tried = {}, {}
    for name, compute in (("beside", bench.beside), ("here", bench.here)):
        with computing_in("float32"):
            task = _task(bench, recipe, compute, lists)
            (weights, facts), taken = timed(pick_device(compute), task, quiet)
        model = task.start()
        set_weights(model, weights)
        folder = bench.folder / f"cross_encoder_{name}"
        model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
        trained[name] = facts["loss_last"], taken
        own = Reranker(bench.folder / "cross_encoder_beside", recipe, compute)
        own.score(pairs[:2])
        tried[name] = timed(pick_device(compute), own.score, pairs)
        apart = abs(_ranked(bench, near, tried[name][0]) - _ranked(bench, near, tried["beside"][0]))
    scored = Reranker(bench.folder / "cross_encoder_beside", recipe, bench.here)
    many = [pairs[number % len(pairs)] for number in range(bench.sizes.pairs // 4)]
    _, seconds = timed(bench.device, scored.score, many)
    tokenizer, backbone = scored.model.tokenizer, scored.model.transformers_model
    lengths = [
        min(len(ids), recipe.max_tokens)
        for ids in tokenizer([one for one, _ in many], [other for _, other in many])["input_ids"]
    ]
    yield Row(
        "cross-encoder, scoring", "float32", "pairs",
        relative_error(tried["here"][0], tried["beside"][0]), apart,
        len(many) / seconds, len(pairs) / tried["beside"][1], seconds,
        Work(forward_operations(backbone, lengths)),
    )  # fmt: skip
    wanted, taken = trained["beside"]
    error = abs(trained["here"][0] - wanted) / abs(wanted)
    final = Reranker(bench.folder / "cross_encoder_here", recipe, bench.beside).score(pairs)
    after = abs(_ranked(bench, near, final) - _ranked(bench, near, tried["beside"][0]))
    longer = _lists(bench, texts.windows(max(8, bench.sizes.nodes // 8)))
    with computing_in("float32"):
        _, seconds = timed(bench.device, _task(bench, recipe, bench.here, longer), quiet)
    yield Row(
        "cross-encoder, training", "float32", "questions", error, after,
        len(longer) / seconds, len(lists) / taken, seconds,
    )  # fmt: skip


def _task(
    bench: Bench, recipe: RerankerSettings, compute: ComputeSettings, lists: list[TrainingList]
) -> ListTraining:
    settings = bench.settings.model_copy(update={"reranker": recipe, "compute": compute})
    weights: Weights = resolve_weights(bench.settings.embedder.model)
    folder: Path = bench.folder / "trainer"
    return ListTraining(weights, True, lists, None, settings, folder)


def _lists(bench: Bench, passages: list[str]) -> list[TrainingList]:
    """Return a list a passage: its made question, itself, and four others."""
    lessons = bench.lessons(passages)
    random = np.random.default_rng(7)
    lists = []
    for number, question in enumerate(lessons.questions.texts[: 8 * (len(passages) // 8)]):
        rows = [number, *random.integers(len(passages), size=4).tolist()]
        teacher = (lessons.vectors[rows] @ lessons.queries[number]).clip(0, 1)
        ids = [str(row) for row in rows]
        lists.append(TrainingList(question, ids, [passages[row] for row in rows], teacher, False))
    return lists


def _ranked(bench: Bench, near: np.ndarray, scores: np.ndarray) -> float:
    whole = np.full((len(near), len(bench.texts.passages)), -1e9)
    np.put_along_axis(whole, near, scores.reshape(near.shape), axis=1)
    return bench.texts.ndcg_of(whole)
