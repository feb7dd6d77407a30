"""The tuned embedder: both towers by contrast, or the query tower alone, taught by the teacher.

Plain contrastive tuning on synthetic questions can cost generality, so the result is averaged with
the base weights (WiSE-FT, Wortsman et al. 2022) by the smallest strength that val cannot tell from
the best, and that makes no kind of val question surely worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.compute import Report, run_training
from ragft_pipeline.digests import digest_of
from ragft_pipeline.models.devices import pick_device
from ragft_pipeline.models.weights import Weights, found_here
from ragft_pipeline.retrieval.encoder import KINDS, Encoder, load_sentence_transformer, prompt_of
from ragft_pipeline.retrieval.metrics import mean_of, smallest_sufficient
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.schemas import TEACHER_SCORES
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace, table_digest
from ragft_pipeline.tuning.cards import write_card
from ragft_pipeline.tuning.checkpoint import Checkpoint
from ragft_pipeline.tuning.data import Questions, TrainingTables, Validation
from ragft_pipeline.tuning.layers import freeze_layers
from ragft_pipeline.tuning.low_rank import add_low_rank, merge_low_rank
from ragft_pipeline.tuning.teacher import TeacherLists
from ragft_pipeline.tuning.towers import Lesson, Towers, train_towers
from ragft_pipeline.tuning.training import set_weights, switch_off_dropout, weights_of

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_VAL_DEPTH = 5  # nodes a val question brings into the search that chooses the strength
_MIN_OF_A_KIND = 20
_LOADING = """
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(THIS_FOLDER)
# or in LlamaIndex
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
embed_model = HuggingFaceEmbedding(
    model_name=THIS_FOLDER, query_instruction={query!r}, text_instruction={document!r}
)
"""
_ONE_SIDED = "# For questions alone: documents keep the vectors of the base model named above.\n"


@dataclass(frozen=True)
class Tuned:
    """A trained model, between whose base weights and tuned weights a strength chooses."""

    model: SentenceTransformer
    start: Mapping[str, torch.Tensor]
    end: Mapping[str, torch.Tensor]
    losses: list[float]
    base: Encoder
    checkpoint: Checkpoint

    def save(self, folder: Path, strength: float) -> None:
        """Save the model at a strength: 0 is the base, 1 is as trained."""
        self.model.load_state_dict(interpolate(self.start, self.end, strength))
        self.model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)


def train_embedder(
    tables: TrainingTables, teacher: pa.Table, settings: Settings, work: Workspace
) -> dict[str, Any]:
    """Tune the base embedder and save it into the workspace's model folder (safetensors).

    Args:
        teacher: TEACHER_SCORES of the train questions over the train nodes.

    Returns facts: questions, steps, loss, the chosen strength and val nDCG@10 before and after.
    """
    recipe = settings.tuned_embedder
    tuned = fit_embedder(tables.questions(), tables.nodes(), teacher, settings, work)
    pool = _Pool.of(tables, tuned.base, settings, work)
    strengths, after = sorted(set(recipe.strengths)), []
    for strength in strengths:
        with TemporaryDirectory(dir=work.folder) as folder:
            tuned.save(Path(folder), strength)
            encoder = Encoder.tuned(Path(folder), settings.embedder, settings.compute)
            after.append(pool.ndcg(encoder, settings, work))
        work.progress(f"tuned_embedder: strength {strength}, val nDCG@10 {mean_of(after[-1]):.4f}")
    chosen, values = choose_strength(strengths, pool.before, after, pool.kinds)
    facts = {
        "val_questions": len(pool.before),
        "val_ndcg_at_10_base": mean_of(pool.before),
        "val_ndcg_at_10": mean_of(values),
    }
    return _save(tuned, chosen, facts, settings, work.model)


def refit_embedder(
    questions: Questions,
    nodes: dict[str, str],
    teacher: pa.Table,
    strength: float,
    settings: Settings,
    work: Workspace,
    folder: Path,
) -> dict[str, Any]:
    """Tune the embedder on all documents with a strength chosen before, and save it."""
    tuned = fit_embedder(questions, nodes, teacher, settings, work)
    return _save(tuned, strength, {}, settings, folder)


def fit_embedder(
    questions: Questions,
    nodes: dict[str, str],
    teacher: pa.Table,
    settings: Settings,
    work: Workspace,
) -> Tuned:
    """Return the base embedder trained at full strength on at most `max_pairs` questions.

    A training that was killed goes on from its last checkpoint, below the store's staging folder.

    Args:
        questions, nodes: what to train on; every question's source is among the nodes.
        teacher: TEACHER_SCORES of the questions over the nodes.
    """
    recipe, embedder = settings.tuned_embedder, settings.embedder
    base = Encoder.base(embedder, settings.compute)
    questions = Questions(
        *(part[: recipe.max_pairs] for part in (questions.ids, questions.texts, questions.node_ids))
    )
    node_ids, vectors = cached_vectors(work, base, nodes, "document")
    column = {node_id: index for index, node_id in enumerate(node_ids)}
    asked, shown = (prompt_of(base.weights, embedder, kind) for kind in KINDS)
    lesson = Lesson(
        [asked + text for text in questions.texts],
        [shown + text for text in nodes.values()],
        np.array([column[node_id] for node_id in questions.node_ids]),
        vectors,
        TeacherLists(teacher, questions, node_ids),
    )
    training = digest_of(
        recipe.digest(), embedder.digest(), table_digest(teacher, TEACHER_SCORES.volatile),
        base.weights.digest, questions.ids, node_ids, work.code,
    )  # fmt: skip
    folder = work.store.root / "staging" / "training"
    checkpoint = Checkpoint(folder / f"{work.asset}-{training[:24]}" / "checkpoint.pt")
    task = _TowerTraining(lesson, base.weights, settings, checkpoint)
    end, losses = run_training(task, settings.compute, work.progress, work.folder)
    model = task.start()
    start = _copy(model)
    set_weights(model, end)
    return Tuned(model, start, _copy(model), losses, base, checkpoint)


@dataclass(frozen=True)
class _TowerTraining:
    """The training as it travels: the weights at its end, and the loss of every step."""

    lesson: Lesson
    weights: Weights
    settings: Settings
    checkpoint: Checkpoint

    def start(self) -> SentenceTransformer:
        """Load the base model."""
        import torch

        device = pick_device(self.settings.compute)
        return load_sentence_transformer(
            found_here(self.weights), self.settings.embedder, device, torch.float32
        )

    def __call__(self, report: Report) -> tuple[dict[str, np.ndarray], list[float]]:
        import torch

        recipe = self.settings.tuned_embedder
        model = self.start()
        torch.manual_seed(recipe.seed)
        switch_off_dropout(model)
        if recipe.recipe == "lora":
            add_low_rank(model, recipe.rank)
        else:
            freeze_layers(model.transformers_model, recipe.frozen_layers)
        towers = Towers(model, recipe, self.settings.compute)
        losses = train_towers(towers, self.lesson, recipe, self.checkpoint, report)
        merge_low_rank(model)
        return weights_of(model), losses


def _copy(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def interpolate(
    start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], strength: float
) -> dict[str, torch.Tensor]:
    """Return weights between two states: strength 0 is `start`, 1 is `end`."""
    return {
        name: start[name] + strength * (end[name] - start[name])
        if end[name].is_floating_point()
        else end[name]
        for name in end
    }


def choose_strength(
    strengths: Sequence[float],
    before: np.ndarray,
    after: Sequence[np.ndarray],
    kinds: Sequence[str],
) -> tuple[float, np.ndarray]:
    """Return the smallest strength that val cannot tell from the best, and its val scores.

    A strength with which a kind of question (of which there are enough to say so) is surely worse
    than with the base is out; where all are, strength 0 keeps the base.

    Args:
        strengths: in ascending order.
        before: each val question's score with the base; `after` with each strength.
        kinds: each val question's kind.
    """
    passing = [
        index
        for index in range(len(strengths))
        if not any(
            _surely_worse((after[index] - before)[np.array(kinds) == kind]) for kind in set(kinds)
        )
    ]
    if not passing:
        return 0.0, before
    best = smallest_sufficient([strengths[i] for i in passing], [after[i] for i in passing])
    return strengths[passing[best]], after[passing[best]]


def _surely_worse(gains: np.ndarray) -> bool:
    if len(gains) < _MIN_OF_A_KIND:
        return False
    return bool(gains.mean() + 1.96 * gains.std(ddof=1) / np.sqrt(len(gains)) < 0)


@dataclass(frozen=True)
class _Pool:
    """Val questions, and the nodes they are searched among: sources and what base finds near.

    A strength costs an encoding of these nodes, so the pool does not grow with the corpus.
    """

    val: Validation
    kinds: list[str]
    before: np.ndarray
    documents: np.ndarray

    @classmethod
    def of(
        cls, tables: TrainingTables, base: Encoder, settings: Settings, work: Workspace
    ) -> _Pool:
        val = tables.validation(settings.tuned_embedder.val_questions)
        _, queries = cached_vectors(work, base, val.questions.by_id(), "query")
        ids, vectors = cached_vectors(work, base, val.nodes, "document")
        kind_of = dict(
            zip(
                tables.val_pairs.column("question_id").to_pylist(),
                tables.val_pairs.column("kind").to_pylist(),
            )
        )
        kinds = [kind_of[question_id] for question_id in val.questions.ids]
        sources = [index for wanted in val.relevant() for index in wanted]
        near = top_k(queries @ vectors.T, _VAL_DEPTH) if kinds else np.zeros(0, np.int64)
        kept = np.union1d(near, sources).astype(np.int64)
        pool = Validation(val.questions, {ids[index]: val.nodes[ids[index]] for index in kept})
        return cls(pool, kinds, pool.ndcg(queries, vectors[kept]), vectors[kept])

    def ndcg(self, tuned: Encoder, settings: Settings, work: Workspace) -> np.ndarray:
        """Return nDCG@10 of each val question with a tuned encoder, whose vectors are kept."""
        _, queries = cached_vectors(work, tuned, self.val.questions.by_id(), "query")
        if settings.tuned_embedder.recipe == "query_tower":
            return self.val.ndcg(queries, self.documents)
        _, documents = cached_vectors(work, tuned, self.val.nodes, "document")
        return self.val.ndcg(queries, documents)


def _save(
    tuned: Tuned, strength: float, facts: dict[str, Any], settings: Settings, folder: Path
) -> dict[str, Any]:
    recipe, embedder = settings.tuned_embedder, settings.embedder
    tuned.save(folder, strength)
    one_sided = recipe.recipe == "query_tower"
    facts = {
        "strength": strength,
        "steps": len(tuned.losses),
        "loss": float(np.mean(tuned.losses[-10:])),
        **facts,
    }
    prompts = {kind: prompt_of(tuned.base.weights, embedder, kind) for kind in KINDS}
    loading = _LOADING.format(**prompts)
    write_card(
        folder,
        f"{embedder.model}, tuned",
        "A sentence-transformers embedder tuned on questions about one corpus version.",
        {
            "base_digest": tuned.base.weights.digest,
            "document_tower": "base" if one_sided else "tuned",
            **facts,
            **recipe.model_dump(mode="json"),
        },
        (_ONE_SIDED if one_sided else "") + loading,
    )
    tuned.checkpoint.discard()
    return facts
