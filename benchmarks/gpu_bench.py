"""What the stages of benchmarks.gpu share: the device, the CPU beside it, sizes, rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.gpu_data import Lessons, Texts, made_questions
from benchmarks.gpu_floor import Rates, Work
from benchmarks.results_file import Results
from ragft_pipeline.retrieval.encoder import Encoder, Kind
from ragft_pipeline.settings import ComputeSettings, Settings

SAME_RANKING = 0.002  # of nDCG@10
NEAR = {"float32": 1e-3, "bfloat16": 0.05, "4 bits": 0.3}  # relative error against the CPU's
LEAST_SHARE = 0.5  # of the floor's rate, where batches are full
CHOOSERS = ("models.number_types", "answering.fitting", "tuning.reranker_training")


class Missing(Exception):
    """What a stage needs is not there."""


@dataclass(frozen=True)
class Sizes:
    """How much is compared with the CPU, and how much is timed."""

    passages: int  # compared
    words: int  # of each text that is cut for the clock
    texts: int  # encoded for the clock
    tokens: int  # texts whose token vectors are
    pairs: int  # scored by MaxSim, and by a cross-encoder
    nodes: int  # mapped
    step: tuple[int, int]  # passages of a towers' step: compared, timed
    steps: tuple[int, int]
    chats: tuple[int, int]  # of LoRA, in steps of 4 and of 16
    answers: tuple[int, int]
    new_tokens: int
    product: int  # side of the matrix


SMALL = Sizes(
    passages=14, words=60, texts=16, tokens=16, pairs=100, nodes=16, step=(6, 6), steps=(2, 2),
    chats=(4, 4), answers=(4, 4), new_tokens=8, product=512,
)  # fmt: skip
FULL = Sizes(
    passages=384, words=170, texts=16384, tokens=4096, pairs=100_000, nodes=8192,
    step=(32, 512), steps=(4, 16), chats=(12, 512), answers=(8, 256), new_tokens=64, product=8192,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A stage in one number type: how near to the CPU's it is, and how fast.

    Attributes:
        error: relative, against the CPU's in float32; None where nothing is compared.
        ranking: the difference of nDCG@10; None where nothing is ranked.
        rate, cpu_rate: units a second, here and on 2 threads of the CPU in float32; 0: not timed.
        work: of the timed run, in `seconds`; None where none is counted.
        full: whether its batches are full, so that it must come near the floor.
    """

    stage: str
    dtype: str
    unit: str
    error: float | None = None
    ranking: float | None = None
    rate: float = 0.0
    cpu_rate: float = 0.0
    seconds: float = 0.0
    work: Work | None = None
    full: bool = False


@dataclass
class Bench:
    """A run: where, how much, on what, and what it has found."""

    device: str
    sizes: Sizes
    folder: Path
    language_model: str
    rates: Rates
    settings: Settings = field(default_factory=Settings)
    results: Results = field(default_factory=lambda: Results("gpu"))
    _encoders: dict[tuple[str, str, int], Encoder] = field(default_factory=dict)

    @property
    def here(self) -> ComputeSettings:
        """The device that is looked at."""
        return ComputeSettings.model_validate({"device": self.device})

    @property
    def beside(self) -> ComputeSettings:
        """Two threads of the CPU, in float32."""
        return ComputeSettings(device="cpu", threads=2)

    @cached_property
    def texts(self) -> Texts:
        return Texts.of_sample(self.sizes.passages, self.sizes.words)

    def encoder(self, compute: ComputeSettings, dtype: str = "float32") -> Encoder:
        """Return the packaged embedder there, loaded once."""
        typed = compute.model_copy(update={"dtype": dtype})
        key = typed.device, dtype, typed.threads
        if key not in self._encoders:
            self._encoders[key] = Encoder.base(self.settings.embedder, typed)
        return self._encoders[key]

    @cached_property
    def reference(self) -> dict[Kind, np.ndarray]:
        """The CPU's vectors of the questions and the passages."""
        encoder = self.encoder(self.beside)
        return {
            "query": encoder.encode(self.texts.questions, "query"),
            "document": encoder.encode(self.texts.passages, "document"),
        }

    def lessons(self, passages: list[str]) -> Lessons:
        """Return what maps and towers learn from."""
        encoder = self.encoder(self.here)
        queries = encoder.encode(made_questions(passages), "query")
        return Lessons(passages, queries, encoder.encode(passages, "document"))

    def add(self, row: Row) -> str:
        """Record a row's figures and what misses its bar; return its line of the table."""
        name, results = f"{self.device}/{row.stage}/{row.dtype}", self.results
        accelerator = self.device != "cpu"
        cells = [row.stage, row.dtype]
        # few questions about few passages do not tell what rounding does to a ranking
        ranked = SAME_RANKING if accelerator or row.dtype == "float32" else None
        for value, what, unit, most in (
            (row.error, "error", "of 1", NEAR[row.dtype]),
            (row.ranking, "ndcg_apart", "nDCG@10", ranked),
        ):
            cells.append(
                "" if value is None else f"{value:.1e}" if unit == "of 1" else f"{value:.4f}"
            )
            if value is not None:
                results.add(f"{name}/{what}", value, unit, at_most=most)
        if not row.rate:
            return f"| {' | '.join([*cells, *[''] * 4])} |"
        slowest = row.cpu_rate if accelerator else None
        results.add(f"{name}/rate", row.rate, f"{row.unit}/s", at_least=slowest)
        times = f"{row.rate / row.cpu_rate:.1f}" if row.cpu_rate else ""
        cells += [f"{row.rate:,.4g} {row.unit}/s", times]
        if row.work is None:
            return f"| {' | '.join([*cells, '', ''])} |"
        typed = row.dtype if row.dtype in self.rates.products else "bfloat16"
        floor, bound = row.work.floor(self.rates, typed)
        share = floor / row.seconds
        least = LEAST_SHARE if accelerator and row.full else None
        results.add(f"{name}/share_of_floor", share, "of 1", at_least=least)
        return f"| {' | '.join([*cells, f'{share:.0%}', bound])} |"


@contextmanager
def computing_in(dtype: str) -> Iterator[None]:
    """Let models train and answer in a number type, whatever is faster here."""
    import torch

    def chosen(compute: ComputeSettings) -> Any:
        return getattr(torch, dtype)

    with ExitStack() as stack:
        for module in CHOOSERS:
            stack.enter_context(patch(f"ragft_pipeline.{module}.faster_dtype", chosen))
        yield


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the length of the difference over the length of what is wanted."""
    return float(np.linalg.norm(found - wanted) / max(float(np.linalg.norm(wanted)), 1e-12))


def quiet(line: str) -> None:
    """Say nothing."""


Stage = Callable[[Bench], Iterator[Row]]
