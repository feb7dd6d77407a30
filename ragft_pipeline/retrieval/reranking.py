"""Reranking a first stage's candidates with a cross-encoder, alone or mixed with it."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa

from ragft_pipeline.compute import RowFunction
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.devices import pick_device, pick_dtype, texts_at_once
from ragft_pipeline.models.quiet import quiet_transformers
from ragft_pipeline.models.weights import folder_digest
from ragft_pipeline.retrieval.search import min_max
from ragft_pipeline.settings import ComputeSettings, RerankerSettings
from ragft_pipeline.store import Workspace

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

_BLOCK = 1024
_PAIR_SCORES = pa.schema([("row_key", pa.string()), ("score", pa.float32())])


class PairScorer(Protocol):
    """Scores (question, passage) pairs: a cross-encoder, or late interaction."""

    @property
    def identity(self) -> str:
        """A digest of what decides a pair's score."""
        ...

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return one raw score a pair, float32."""
        ...


class Reranker:
    """Scores (question, passage) pairs; the model loads on first use."""

    def __init__(self, folder: Path, settings: RerankerSettings, compute: ComputeSettings) -> None:
        self.folder = folder.absolute()
        self._settings = settings
        self._compute = compute
        self._model: CrossEncoder | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle what the reranker is, not what it has loaded or found here."""
        kept = {name: value for name, value in vars(self).items() if name != "identity"}
        return {**kept, "_model": None}

    @cached_property
    def identity(self) -> str:
        """A digest of what decides a pair's score: weights, length limit, type."""
        return digest_of(folder_digest(self.folder), self._settings.max_tokens, self._compute.dtype)

    @property
    def model(self) -> CrossEncoder:
        """The cross-encoder, loaded for inference."""
        if self._model is None:
            device = pick_device(self._compute)
            self._model = load_cross_encoder(
                self.folder, self._settings, device, pick_dtype(self._compute)
            )
        return self._model

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return one raw score a pair (question, passage), float32."""
        scores = np.empty(len(pairs), dtype=np.float32)
        order = np.argsort([-len(passage) for _, passage in pairs], kind="stable")
        transformer = self.model.transformers_model
        size = texts_at_once(self._compute, self._settings.max_tokens, transformer)
        for start in range(0, len(pairs), _BLOCK):
            block = order[start : start + _BLOCK]
            values = self.model.predict(
                [pairs[i] for i in block],
                batch_size=size,
                show_progress_bar=False,
                convert_to_tensor=True,
            )
            scores[block] = values.float().cpu().numpy().reshape(-1)
        return scores


@dataclass(frozen=True)
class _Pair:
    row_key: str
    question: str
    passage: str


@dataclass(frozen=True)
class _Score(RowFunction[_Pair]):
    """Scores of pairs by a reranker, which must be the one that `identity` names."""

    seconds: ClassVar[float] = 0.02
    scorer: Reranker
    identity: str

    def __call__(self, units: Sequence[_Pair]) -> pa.Table:
        if self.scorer.identity != self.identity:
            raise RagftError(
                f"reranker {str(self.scorer.folder)!r} on {platform.node()} has other contents "
                "than where the run was started; every machine needs the same model files"
            )
        return _scored(self.scorer, units)


def _scored(scorer: PairScorer, pairs: Sequence[_Pair]) -> pa.Table:
    scores = scorer.score([(pair.question, pair.passage) for pair in pairs])
    return pa.table({"row_key": [pair.row_key for pair in pairs], "score": scores})


def cached_pair_scores(
    work: Workspace, name: str, scorer: PairScorer, pairs: Sequence[tuple[str, str]]
) -> np.ndarray:
    """Return each pair's score, float32; only pairs that this scorer never saw are computed.

    The rows are shared by every asset. Late interaction scores here: it compares stored vectors,
    and sending them would take longer.
    """
    units = [_Pair(digest_of(*pair)[:32], *pair) for pair in pairs]
    score: Callable[[Sequence[_Pair]], pa.Table] = partial(_scored, scorer)
    if isinstance(scorer, Reranker):
        score = _Score(scorer, scorer.identity)
    cache = work.rows(f"pair_scores_{name}", scorer.identity, _PAIR_SCORES, family="*")
    rows = cache.complete(units, attrgetter("row_key"), score, batch_size=8192)
    by_key = dict(zip(rows.column("row_key").to_pylist(), rows.column("score").to_pylist()))
    return np.array([by_key[unit.row_key] for unit in units], dtype=np.float32)


def load_cross_encoder(
    folder: Path, settings: RerankerSettings, device: str, dtype: torch.dtype
) -> CrossEncoder:
    """Load a cross-encoder with one raw score as its output; RagftError where it is not one."""
    quiet_transformers()
    import torch
    from sentence_transformers import CrossEncoder

    try:
        model = CrossEncoder(
            str(folder),
            num_labels=1,
            max_length=settings.max_tokens,
            device=device,
            trust_remote_code=settings.trust_remote_code,
            local_files_only=True,
            activation_fn=torch.nn.Identity(),
            model_kwargs={"dtype": dtype},
        )
    except Exception as error:
        raise _not_loaded(folder, error) from None
    return model.to(dtype)  # modules after the transformer do not follow model_kwargs


def new_cross_encoder(
    folder: Path, settings: RerankerSettings, device: str, dtype: torch.dtype
) -> CrossEncoder:
    """Return an embedder's transformer with a new head: a linear score of its mean token vector.

    The mean of the tokens shows what they found in the other text; a first token would have to
    collect it in one more step of attention.
    """
    quiet_transformers()
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    own = {"local_files_only": True, "trust_remote_code": settings.trust_remote_code}
    try:
        transformer = Transformer(
            str(folder),
            model_kwargs={**own, "dtype": dtype},
            processor_kwargs={**own, "model_max_length": settings.max_tokens},
            config_kwargs=own,
        )
    except Exception as error:
        raise _not_loaded(folder, error) from None
    width = transformer.get_embedding_dimension()
    head = Dense(width, 1, activation_function=torch.nn.Identity(), module_output_name="scores")
    torch.nn.init.normal_(head.linear.weight, std=0.02)
    torch.nn.init.zeros_(head.linear.bias)
    modules = [transformer, Pooling(width, "mean"), head]
    return CrossEncoder(modules=modules, device=device, activation_fn=torch.nn.Identity()).to(dtype)


def is_cross_encoder(folder: Path) -> bool:
    """Whether a model folder says that it scores pairs, rather than embeds texts."""

    def read(name: str) -> dict[str, Any]:
        file = folder / name
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    if "model_type" in (card := read("config_sentence_transformers.json")):
        return bool(card["model_type"] == "CrossEncoder")
    named = read("config.json").get("architectures") or [""]
    return str(named[0]).endswith(("ForSequenceClassification", "ForCausalLM"))


def _not_loaded(folder: Path, error: Exception) -> RagftError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return RagftError(f"reranker {str(folder)!r} cannot be loaded: {first[:300]}")


def blend(first_stage: np.ndarray, reranked: np.ndarray, weight: float) -> np.ndarray:
    """Mix the candidates' two scores, min-max each: weight 0 is the first stage, 1 the reranker.

    Args:
        first_stage, reranked: scores of the same candidates, shape (questions, candidates).
    """
    return weight * min_max(reranked) + (1 - weight) * min_max(first_stage)
