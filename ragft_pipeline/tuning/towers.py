"""The training loop of an encoder's towers: what a step sees, and its loss.

A step encodes each distinct passage once, with every question that has it as its source, so its
loss compares all of the step's questions with all of its passages. Where another passage answers as
well as the source, the teacher's scores say so, and it is no negative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ragft_pipeline.compute import add_up, add_up_gradients, require_agreement, share
from ragft_pipeline.models.devices import pick_device, texts_at_once, tokens_kept
from ragft_pipeline.models.memory import trim
from ragft_pipeline.models.number_types import attention_in_training, autocast
from ragft_pipeline.settings import ComputeSettings, TunedEmbedderSettings
from ragft_pipeline.tuning.checkpoint import Checkpoint
from ragft_pipeline.tuning.teacher import TeacherLists

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_COLUMNS = 4096  # passages that a step of the query tower compares with


@dataclass(frozen=True)
class Lesson:
    """What is learnt from; texts have their prompts.

    Attributes:
        questions, passages: the texts.
        own: the position of each question's source passage, int of shape (questions,).
        vectors: the base model's unit vectors of the passages, float32 (passages, dimension).
        teacher: the teacher's scores, questions against passages.
    """

    questions: list[str]
    passages: list[str]
    own: np.ndarray
    vectors: np.ndarray
    teacher: TeacherLists


Step = tuple[np.ndarray, np.ndarray]
"""The questions and the passages of a step, as positions in the lesson."""


def passage_steps(lesson: Lesson, recipe: TunedEmbedderSettings, epoch: int) -> list[Step]:
    """Return an epoch's steps: every passage that has questions once.

    `neighbours` passages that lie near each other stand together.
    """
    random = np.random.default_rng([recipe.seed, epoch])
    asked = np.argsort(lesson.own, kind="stable")
    passages, starts = np.unique(lesson.own[asked], return_index=True)
    questions = dict(zip(passages.tolist(), np.split(asked, starts[1:])))
    groups = neighbourhoods(passages, lesson.vectors, recipe.neighbours, random)
    random.shuffle(groups)
    order = np.concatenate(groups)
    steps = []
    for start in range(0, len(order), recipe.batch_size):
        columns = np.sort(order[start : start + recipe.batch_size])
        rows = np.concatenate([questions[passage] for passage in columns.tolist()])
        mined = hard_negatives(lesson, rows, recipe)
        steps.append((rows, np.union1d(columns, mined)))
    return steps


def question_steps(lesson: Lesson, recipe: TunedEmbedderSettings, epoch: int) -> list[Step]:
    """Return an epoch's steps for the query tower: every question once, against the corpus."""
    random = np.random.default_rng([recipe.seed, epoch])
    order = random.permutation(len(lesson.questions))
    batches = [order[at : at + recipe.batch_size] for at in range(0, len(order), recipe.batch_size)]
    return [(rows, lesson.teacher.columns(rows, _COLUMNS, random)) for rows in batches]


def neighbourhoods(
    rows: np.ndarray, vectors: np.ndarray, size: int, random: np.random.Generator
) -> list[np.ndarray]:
    """Cut rows into groups of at most `size` that lie near each other.

    Halves along the line between two random members, again and again: an epoch's groups are
    unlike another's, at the cost of one product a level.
    """
    if len(rows) <= size:
        return [rows]
    one, other = vectors[random.choice(rows, 2, replace=False)]
    rows = rows[np.argsort(vectors[rows] @ (one - other), kind="stable")]
    halves = np.array_split(rows, 2)
    return [group for half in halves for group in neighbourhoods(half, vectors, size, random)]


def hard_negatives(lesson: Lesson, rows: np.ndarray, recipe: TunedEmbedderSettings) -> np.ndarray:
    """Return passages that the teacher ranks high for a question, but surely below its source.

    `hard_negatives` of them for one question of each passage; a passage that scores more than
    `false_negative` of what the source does is none.
    """
    if not recipe.hard_negatives:
        return np.zeros(0, np.int64)
    _, first = np.unique(lesson.own[rows], return_index=True)
    every = np.arange(len(lesson.passages))
    scores, own = lesson.teacher.dense(rows[first], every)
    limit = recipe.false_negative * np.take_along_axis(scores, own[:, None], axis=1)
    scores = np.where((scores < limit) & (every != own[:, None]), scores, -np.inf)
    best = np.argsort(-scores, axis=1, kind="stable")[:, : recipe.hard_negatives]
    return np.unique(best[np.isfinite(np.take_along_axis(scores, best, axis=1))])


def ranking_loss(
    cosines: torch.Tensor, teacher: torch.Tensor, own: torch.Tensor, recipe: TunedEmbedderSettings
) -> torch.Tensor:
    """Return the loss of a step: distillation from the teacher plus contrast with the source.

    Args:
        cosines, teacher: float (questions, passages).
        own: the column of each question's source.
    """
    from torch.nn import functional

    logits = cosines / recipe.temperature
    loss = logits.new_zeros(())
    teacher_weight, source_weight = recipe.loss_weights
    if teacher_weight:
        wanted = (teacher / recipe.teacher_temperature).softmax(dim=1)
        student = functional.log_softmax(logits, dim=1)
        loss = loss + teacher_weight * functional.kl_div(student, wanted, reduction="batchmean")
    if source_weight:
        answers_too = false_negatives(teacher, own, recipe.false_negative)
        logits = logits.masked_fill(answers_too, float("-inf"))
        loss = loss + source_weight * functional.cross_entropy(logits, own)
    return loss


def false_negatives(teacher: torch.Tensor, own: torch.Tensor, share: float) -> torch.Tensor:
    """Return where a passage scores at least `share` of what the source does, itself left out."""
    at_least = share * teacher.gather(1, own[:, None])
    return (teacher >= at_least).scatter(1, own[:, None], False)


class Towers:
    """A model in training: its vectors, with or without what a backward pass needs."""

    def __init__(
        self, model: SentenceTransformer, recipe: TunedEmbedderSettings, compute: ComputeSettings
    ) -> None:
        self.model = model
        self._recipe = recipe
        self._device = pick_device(compute)
        self._compute = compute
        transformer = model.transformers_model
        self._texts = texts_at_once(compute, recipe.passage_tokens, transformer, kept=True)
        self._room = 0 if recipe.accumulate else tokens_kept(compute, transformer)

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Return vectors of texts of like length, float32 of shape (texts, dimension)."""
        return self._vectors(self._features(texts))

    def _features(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        import torch
        from sentence_transformers.util import batch_to_device

        features = self.model.preprocess(list(texts), max_length=self._recipe.passage_tokens)
        return dict(batch_to_device(features, torch.device(self._device)))

    def _vectors(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        with autocast(self._compute), attention_in_training(self._compute):
            vectors: torch.Tensor = self.model(features)["sentence_embedding"]
        return vectors.float()

    def backward(
        self, texts: Sequence[str], loss_of: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Add the gradients of a loss over the vectors of all texts, and return the loss.

        It stays on its device: fetched at every step, it would make a card wait for the next one's
        texts.

        The loss's gradient at each vector comes first, then that of the weights (GradCache, Gao et
        al. 2021): so a group of processes encodes a share of the texts each and has the gradients
        that one would have. Activations are kept of the shortest texts, as many as there is room
        for; the others are encoded twice, a chunk at a time: the same gradients, for at most a
        third more time and a fraction of the memory. With `accumulate` none are kept.
        """
        import torch

        order = np.array(sorted(range(len(texts)), key=lambda index: len(texts[index])))
        place, size = share()
        texts_each = min(self._texts, -(-len(order) // size))  # a part for every process
        parts = [order[at : at + texts_each] for at in range(0, len(order), texts_each)]
        chunks = parts[place::size]
        room, kept, found = self._room, list[torch.Tensor](), []
        for chunk in chunks:
            features = self._features([texts[index] for index in chunk])
            room -= features["input_ids"].numel()
            with torch.set_grad_enabled(room >= 0):
                part = self._vectors(features)
            found.append(part.detach())
            if room >= 0:
                kept.append(part)
        again = ([texts[index] for index in chunk] for chunk in chunks[len(kept) :])
        with torch.no_grad():
            like = found[0] if found else self.encode(texts[:1])
        vectors = like.new_zeros(len(texts), like.shape[1])
        places = [torch.from_numpy(chunk).to(vectors.device) for chunk in chunks]
        for rows, part in zip(places, found):
            vectors[rows] = part
        add_up(vectors).requires_grad_()
        loss = loss_of(vectors)
        loss.backward()
        assert vectors.grad is not None
        for rows, part in zip(places, chain(kept, map(self.encode, again))):
            part.backward(vectors.grad[rows])
        add_up_gradients(self.model.parameters())
        return loss.detach()


def train_towers(
    towers: Towers,
    lesson: Lesson,
    recipe: TunedEmbedderSettings,
    checkpoint: Checkpoint,
    report: Callable[[str], None],
) -> list[float]:
    """Train for `epochs` and return the loss of every step, those before a kill included.

    Which texts a step sees depends on the seed and its number alone, so a run that goes on from a
    checkpoint takes the steps that were left.
    """
    import torch

    one_sided = recipe.recipe == "query_tower"
    steps_of = question_steps if one_sided else passage_steps
    trained = [tensor for tensor in towers.model.parameters() if tensor.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=0.01, fused=True)
    losses: list[float | torch.Tensor] = [*checkpoint.restore(towers.model, optimiser)]
    require_agreement(len(losses), f"the checkpoint {checkpoint.path}")
    if losses:
        report(f"tuned_embedder: going on after step {len(losses)}")
    epoch, steps = 0, steps_of(lesson, recipe, 0)
    length = len(steps)
    total = max(1, round(length * recipe.epochs))
    towers.model.train()
    for number in range(len(losses), total):
        if number // length != epoch:
            epoch = number // length
            steps = steps_of(lesson, recipe, epoch)
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _share_of_rate(number, total, recipe.warmup)
        optimiser.zero_grad()
        losses.append(_add_gradients(towers, lesson, steps[number % length], recipe, one_sided))
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        trim()
        if len(losses) % 10 == 0 or len(losses) == total:
            losses[-10:] = last = [float(loss) for loss in losses[-10:]]
            mean = float(np.mean(last))
            report(f"tuned_embedder: step {len(losses)}/{total}, loss {mean:.4f}")
        if share()[0] == 0:
            checkpoint.keep(towers.model, optimiser, losses)
    return [float(loss) for loss in losses]


def _add_gradients(
    towers: Towers, lesson: Lesson, step: Step, recipe: TunedEmbedderSettings, one_sided: bool
) -> torch.Tensor:
    import torch
    from torch.nn import functional

    rows, columns = step
    scores, own = lesson.teacher.dense(rows, columns)
    questions = [lesson.questions[row] for row in rows]
    passages = [] if one_sided else [lesson.passages[column] for column in columns]
    frozen = torch.from_numpy(lesson.vectors[columns]) if one_sided else None

    def loss_of(vectors: torch.Tensor) -> torch.Tensor:
        teacher, source = (torch.from_numpy(a).to(vectors.device) for a in (scores, own))
        asked = vectors[: len(questions)]
        answers = vectors[len(questions) :] if frozen is None else frozen.to(vectors.device)
        widths = {vectors.shape[1], *(w for w in recipe.matryoshka if w < vectors.shape[1])}
        losses = []
        for width in sorted(widths):
            left, right = (
                functional.normalize(side[:, :width], dim=1) for side in (asked, answers)
            )
            losses.append(ranking_loss(left @ right.T, teacher, source, recipe))
        return torch.stack(losses).mean()

    return towers.backward(questions + passages, loss_of)


def _share_of_rate(step: int, steps: int, warmup: float) -> float:
    """Return the share of the learning rate at a step: up over the warm-up, then down to 0."""
    rise = max(1.0, warmup * steps)
    return min((step + 1) / rise, (steps - step) / max(1.0, steps - rise))
