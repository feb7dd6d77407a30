"""What the rows of a routing evaluation say: tools found, regret, confidence, kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.evaluation.claim import Paired
from ragft_pipeline.evaluation.significance import Difference, units_of
from ragft_pipeline.retrieval.question_sets import SERVED, SYNTHETIC, TOMORROW, with_held_out
from ragft_pipeline.routing.catalog import KINDS
from ragft_pipeline.routing.evaluation import KIND_SET, ROUTER, UNTUNED, WORDS
from ragft_pipeline.settings import EvaluationSettings

_TITLES = {
    SERVED: "as served",
    TOMORROW: "tomorrow's documents",
    SYNTHETIC: "synthetic questions",
}
SYSTEMS = (ROUTER, UNTUNED, WORDS)
_NUMBERS = (
    "first_rank", "recall_at_1", "recall_at_5", "recall_at_10", "confidence", "picked",
    "abstained", "ndcg_first", "ndcg_picked", "ndcg_all", "ndcg_best",
)  # fmt: skip
_BINS, _MIN_IN_BIN = 10, 20


@dataclass(frozen=True)
class SystemRouting:
    """One selector on one question set; every value is a mean over the questions."""

    system: str
    questions: int
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    ndcg_first: float
    ndcg_picked: float
    regret_to_best: float


@dataclass(frozen=True)
class SetRouting:
    """A question set's routing.

    Attributes:
        systems: every selector.
        recall_gain, regret_gain: the router's recall@1, and its nDCG@10 of searching the first
            tool alone, over those of the untuned selector.
        change_to_all: nDCG@10 of searching what the router picks over searching everything.
        calibration_error, binned_error, brier: of the confidence that the first tool is right.
        abstained: the share of questions sent to all tools; `picked` tools are searched otherwise.
    """

    question_set: str
    systems: list[SystemRouting]
    recall_gain: Difference
    regret_gain: Difference
    change_to_all: Difference
    calibration_error: float
    binned_error: float
    brier: float
    abstained: float
    picked: float


@dataclass(frozen=True)
class KindRouting:
    """How well the index kinds are told apart on test documents' questions.

    Attributes:
        confusion: questions by best kind (rows) and guessed kind, int (3, 3).
        macro_f1: the mean of the kinds' F1; a guess is right where no kind gains more.
    """

    questions: int
    confusion: np.ndarray
    macro_f1: float


class RoutingRows:
    """Reads a ROUTER_EVAL table by set and system.

    People's questions about held-out documents are a set of their own as well: no map was trained
    on these documents.
    """

    def __init__(self, rows: pa.Table, settings: EvaluationSettings) -> None:
        self._rows = pa.concat_tables([rows, with_held_out(rows, SERVED, TOMORROW)])
        self.settings = settings

    @property
    def sets(self) -> list[str]:
        """The question sets that tools were chosen for."""
        names = set(self._rows.column("question_set").unique().to_pylist())
        return [name for name in _TITLES if name in names]

    def values(self, question_set: str, system: str) -> dict[str, Any]:
        """Return a system's columns on a set, the numbers as float arrays."""
        wanted = pc.and_(
            pc.equal(self._rows.column("question_set"), question_set),
            pc.equal(self._rows.column("system"), system),
        )
        part = self._rows.filter(wanted).sort_by("question_id")
        found: dict[str, Any] = {
            name: np.array(part.column(name).to_pylist(), dtype=float) for name in _NUMBERS
        }
        found["clusters"] = part.column("cluster").to_pylist()
        found["units"] = units_of(found["clusters"], part.column("relevant").to_pylist())
        return found

    def paired(self, question_set: str, name: str) -> Paired:
        """Return router and untuned selector by nDCG@10 of searching the first document alone.

        Args:
            name: what people call the questions.
        """
        router, untuned = (self.values(question_set, system) for system in (ROUTER, UNTUNED))
        scores = (router["ndcg_first"], untuned["ndcg_first"])
        return Paired(name, *scores, router["units"], "nDCG@10 of the first document")

    def of_set(self, question_set: str) -> SetRouting:
        """Return a set's summary."""
        own = {name: self.values(question_set, name) for name in SYSTEMS}
        router, untuned = own[ROUTER], own[UNTUNED]

        def difference(left: np.ndarray, right: np.ndarray) -> Difference:
            return Paired(question_set, left, right, router["units"]).difference(self.settings)

        confidence, right = router["confidence"], router["recall_at_1"]
        answered = bool((router["abstained"] == 0).any())
        return SetRouting(
            question_set,
            [_system(name, values) for name, values in own.items()],
            difference(right, untuned["recall_at_1"]),
            difference(router["ndcg_first"], untuned["ndcg_first"]),
            difference(router["ndcg_picked"], router["ndcg_all"]),
            calibration_error(confidence, right),
            binned_error(confidence, right),
            float(np.mean((confidence - right) ** 2)),
            float(router["abstained"].mean()),
            float(router["picked"][router["abstained"] == 0].mean()) if answered else 0.0,
        )

    def kinds(self) -> KindRouting:
        """Return how the kinds were told apart."""
        part = self._rows.filter(pc.equal(self._rows.column("question_set"), KIND_SET))
        confusion = np.zeros((len(KINDS), len(KINDS)), np.int64)
        for guess, best in zip(
            part.column("kind").to_pylist(), part.column("best_kinds").to_pylist()
        ):
            true = guess if guess in best else best[0]
            confusion[KINDS.index(true), KINDS.index(guess)] += 1
        return KindRouting(part.num_rows, confusion, macro_f1(confusion))

    def by_confidence(self, question_set: str) -> list[tuple[float, float, float]]:
        """Return equal parts of the questions by confidence: its mean, recall@1 and regret.

        Regret is nDCG@10 of searching everything less that of the first tool alone.
        """
        values = self.values(question_set, ROUTER)
        lost = values["ndcg_all"] - values["ndcg_first"]
        return [
            (
                float(values["confidence"][part].mean()),
                float(values["recall_at_1"][part].mean()),
                float(lost[part].mean()),
            )
            for part in _parts(values["confidence"])
        ]

    def abstention(self, question_set: str) -> list[tuple[float, float]]:
        """Return how recall@1 rises as the least sure questions are left out: (share kept, it)."""
        values = self.values(question_set, ROUTER)
        order = np.argsort(-values["confidence"], kind="stable")
        right = values["recall_at_1"][order]
        kept = np.arange(1, len(right) + 1)
        return list(zip((kept / max(1, len(right))).tolist(), (right.cumsum() / kept).tolist()))


def _system(name: str, values: dict[str, Any]) -> SystemRouting:
    return SystemRouting(
        name,
        len(values["clusters"]),
        float(values["recall_at_1"].mean()),
        float(values["recall_at_5"].mean()),
        float(values["recall_at_10"].mean()),
        float(values["ndcg_first"].mean()),
        float(values["ndcg_picked"].mean()),
        float((values["ndcg_best"] - values["ndcg_first"]).mean()),
    )


def binned_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error over bins of equally many questions.

    Ten bins, fewer where these would hold under 20 questions. With few questions this measures
    noise: a perfect confidence has .08 with 20 in a bin.
    """
    parts = _parts(confidence)
    gaps = [len(p) * abs(confidence[p].mean() - right[p].mean()) for p in parts]
    return float(sum(gaps) / max(1, len(confidence)))


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the root of the mean squared calibration error, less what noise adds to it.

    The debiased estimator of Kumar et al. (2019) over the same bins; 0 where noise explains all.
    """
    total = 0.0
    for part in _parts(confidence):
        gap = confidence[part].mean() - right[part].mean()
        share = right[part].mean()
        noise = share * (1 - share) / max(1, len(part) - 1)
        total += len(part) / len(confidence) * float(gap**2 - noise)
    return float(np.sqrt(max(0.0, total)))


def _parts(confidence: np.ndarray) -> list[np.ndarray]:
    if not len(confidence):
        return []
    number = max(1, min(_BINS, len(confidence) // _MIN_IN_BIN))
    return np.array_split(np.argsort(confidence, kind="stable"), number)


def macro_f1(confusion: np.ndarray) -> float:
    """Return the mean F1 of the classes that occur, of a confusion matrix (true, guessed)."""
    found = np.diag(confusion).astype(float)
    either = confusion.sum(axis=0) + confusion.sum(axis=1)
    occurring = confusion.sum(axis=1) > 0
    scores = np.divide(2 * found, either, out=np.zeros(len(found)), where=either > 0)
    return float(scores[occurring].mean()) if occurring.any() else 0.0


def routing_table(sets: Sequence[SetRouting]) -> list[list[str]]:
    """Return all sets' selectors as rows of cells, the header first."""
    header = [
        "questions", "selector", "n", "recall@1", "recall@5", "recall@10",
        "nDCG@10, first tool", "regret to the best tool", "nDCG@10, picked tools",
    ]  # fmt: skip
    rows = [
        [
            _TITLES[one.question_set], s.system, str(s.questions),
            *(
                f"{value:.3f}"
                for value in (
                    s.recall_at_1, s.recall_at_5, s.recall_at_10, s.ndcg_first, s.regret_to_best,
                    s.ndcg_picked,
                )
            ),
        ]
        for one in sets
        for s in one.systems
    ]  # fmt: skip
    return [header, *rows]


def routing_sentences(sets: Sequence[SetRouting], kinds: KindRouting) -> list[str]:
    """Return what a person wants to know of the sets, a line each."""
    lines = []
    for one in sets:
        lines.append(
            f"{_TITLES[one.question_set].capitalize()}: recall@1 {one.recall_gain} and nDCG@10 of "
            f"the first tool {one.regret_gain} over the untuned selector; searching only what is "
            f"picked changes nDCG@10 by {one.change_to_all} against searching everything, with "
            f"{one.picked:.1f} tools a question and {one.abstained:.0%} sent to all; calibration "
            f"error {one.calibration_error:.3f} ({one.binned_error:.3f} with the noise of its "
            f"bins), Brier {one.brier:.3f}."
        )
    lines.append(f"Index kinds on {kinds.questions} questions: macro-F1 {kinds.macro_f1:.3f}.")
    return lines
