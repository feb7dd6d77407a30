"""Choosing: which system to serve and with which weights, by people's questions, cross-fitted.

Whatever is fitted on people's questions is fitted on the other folds when a question is scored, and
on all for the release. The choice between systems is nested in it: for the questions of a fold, the
others choose, by scores whose weights were fitted without either fold. Synthetic questions, which
copy their passage's words, neither fit nor choose; without people's questions the prior stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from ragft_pipeline.evaluation.ranking import Found
from ragft_pipeline.evaluation.second_stages import by_scores
from ragft_pipeline.evaluation.significance import standard_error
from ragft_pipeline.evaluation.systems import BASE, BM25
from ragft_pipeline.retrieval.evidence import Candidates
from ragft_pipeline.retrieval.folds import folds_of
from ragft_pipeline.retrieval.ranker import Ranker
from ragft_pipeline.retrieval.search import MIDDLE

CHOICES_FILE = "choices.json"
# Of BM25's nDCG@10 on synthetic questions: up to the first the base embedder reads nothing, from
# the second on all. MiniLM has .60 to .64 on three English corpora and .16 on a Chinese one.
_LEGIBLE = 0.25, 0.5
Weights = float | dict[str, float] | None
"""A hybrid's dense weight, a ranker's weights by evidence, or nothing to fit."""


class System(Protocol):
    """A system over a set of questions, whose weights some of them fit and others are scored by."""

    @property
    def name(self) -> str:
        """What the evaluation calls it."""

    def fit(self, rows: np.ndarray) -> Weights:
        """Return the weights that some questions, bool (questions,), fit; the prior's of none."""

    def found(self, weights: Weights, rows: np.ndarray) -> Found:
        """Return what the rankings by these weights are worth on some questions."""


@dataclass(frozen=True)
class Plain:
    """A system without weights."""

    name: str
    result: Found

    def fit(self, rows: np.ndarray) -> Weights:
        """Return None: there is nothing to fit."""
        return None

    def found(self, weights: Weights, rows: np.ndarray) -> Found:
        """Return its results on some questions."""
        return self.result.at(rows)


@dataclass(frozen=True)
class Fused:
    """A hybrid, by each dense weight of a grid."""

    name: str
    grid: Sequence[float]
    results: Sequence[Found]

    def fit(self, rows: np.ndarray) -> Weights:
        """Return the best weight; of equally good ones the middle."""
        if not rows.any():
            return MIDDLE
        means = np.array([one.primary[rows].mean() for one in self.results])
        best = np.flatnonzero(np.isclose(means, means.max(), atol=1e-4))
        return float(self.grid[best[len(best) // 2]])

    def found(self, weights: Weights, rows: np.ndarray) -> Found:
        """Return its results at the weight of the grid that is nearest."""
        assert isinstance(weights, float)
        nearest = min(range(len(self.grid)), key=lambda i: abs(self.grid[i] - weights))
        return self.results[nearest].at(rows)


@dataclass(frozen=True)
class Ranked:
    """A hybrid's candidates in the order of a ranker over evidence.

    Attributes:
        legible: how far the base embedder reads the corpus, 0..1, for the prior.
    """

    name: str
    candidates: Candidates
    relevant: Sequence[frozenset[int]]
    clusters: Sequence[str]
    legible: float = 1.0
    right: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "right", self.candidates.relevant(self.relevant))

    def fit(self, rows: np.ndarray) -> Weights:
        """Return the weights of the evidence, drawn to the shipped ones."""
        found, clusters = self.candidates, np.array(self.clusters)
        return Ranker.fitted(
            found.names,
            found.features[rows],
            self.right[rows],
            clusters[rows].tolist(),
            self.legible,
        ).weights

    def found(self, weights: Weights, rows: np.ndarray) -> Found:
        """Return its results; evidence without a weight counts nothing."""
        assert isinstance(weights, dict)
        part = self.candidates
        scores = Ranker(weights).scores(part.names, part.features[rows])
        ranking = by_scores(part.nodes[rows], scores)
        return Found.of(ranking.nodes, [self.relevant[i] for i in np.flatnonzero(rows).tolist()])


@dataclass(frozen=True)
class Choice:
    """What some questions chose: the system, and every system's weights as they fitted them."""

    system: str
    weights: dict[str, Weights]


@dataclass(frozen=True)
class Choices:
    """The choice for the release, and for each fold the one that its questions had no part in.

    Attributes:
        questions: people's questions that chose and fitted; 0 where the prior stands.
        whole: the choice of all of them: what a release serves.
        folds: by fold, the choice of all others.
    """

    questions: int
    whole: Choice
    folds: dict[str, Choice]

    def without(self, fold: int) -> Choice:
        """Return the choice that no question of a fold had a part in."""
        return self.folds.get(str(fold), self.whole)

    def save(self, folder: Path) -> None:
        """Write the choices into an evaluation's folder."""
        (folder / CHOICES_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Choices:
        """Return the choices that an evaluation's folder holds."""
        kept = json.loads((folder / CHOICES_FILE).read_text(encoding="utf-8"))
        folds = {fold: Choice(**one) for fold, one in kept["folds"].items()}
        return cls(kept["questions"], Choice(**kept["whole"]), folds)


def prior_choice(systems: Sequence[System], system: str) -> Choices:
    """Return the choice of nobody's questions: a system and the shipped weights."""
    weights = {one.name: one.fit(np.zeros(0, bool)) for one in systems}
    return Choices(0, Choice(system, weights), {})


def legible(systems: Sequence[System]) -> float:
    """Return how far the base embedder reads the corpus, 0..1, by synthetic questions.

    They copy words, so they do not say what a dense retriever is worth; but one that does not even
    find passages by their own words cannot read them.
    """
    found = {one.name: one.result.primary.mean() for one in systems if isinstance(one, Plain)}
    if not found.get(BM25, 0.0) or BASE not in found:
        return 1.0
    none, whole = _LEGIBLE
    return float(np.clip((found[BASE] / found[BM25] - none) / (whole - none), 0.0, 1.0))


class CrossFit:
    """Fits systems on folds of questions and scores each question by what it did not fit.

    Args:
        systems: those to fit.
        served: the names of those to choose among.
        clusters: each question's document cluster, which decides its fold.
        units: of questions that depend on each other, for standard errors.
        prior: the system that is chosen where there is no question to choose.
    """

    def __init__(
        self,
        systems: Sequence[System],
        served: Collection[str],
        clusters: Sequence[str],
        units: Sequence[str],
        prior: str,
    ) -> None:
        self.systems = systems
        self.served = [system for system in systems if system.name in served]
        self.prior = prior
        self.folds = folds_of(clusters)
        self._units = np.array(units)
        self._fitted: dict[tuple[str, frozenset[int]], Weights] = {}

    def fitted(self, system: System, *left_out: int) -> Weights:
        """Return a system's weights, fitted on the questions of all folds but some."""
        key = (system.name, frozenset(left_out))
        if key not in self._fitted:
            self._fitted[key] = system.fit(~np.isin(self.folds, left_out))
        return self._fitted[key]

    def scores(self, system: System, *left_out: int) -> np.ndarray:
        """Return nDCG@10 of each question by weights fitted without its fold and some others.

        Float (questions,), NaN for the questions of the folds left out.
        """
        scores = np.full(len(self.folds), np.nan)
        for fold in set(np.unique(self.folds).tolist()) - set(left_out):
            rows = self.folds == fold
            scores[rows] = system.found(self.fitted(system, fold, *left_out), rows).primary
        return scores

    def choose(self, *left_out: int) -> str:
        """Return the system that the questions of the other folds choose.

        Of those that cost alike to serve, the best; of these, the cheapest that the questions
        cannot tell from the best of all: within one standard error of their difference.
        """
        rows = ~np.isin(self.folds, left_out)
        if not rows.any():
            return self.prior
        best: dict[int, tuple[str, np.ndarray]] = {}
        for system in self.served:
            scores, cost = self.scores(system, *left_out)[rows], stages_of(system.name)
            if cost not in best or scores.mean() > best[cost][1].mean():
                best[cost] = system.name, scores
        most = max((scores for _, scores in best.values()), key=lambda scores: scores.mean())
        units = self._units[rows].tolist()
        for cost in sorted(best):
            name, scores = best[cost]
            if (away := most - scores).mean() <= standard_error(away, units):
                return name
        raise AssertionError("the best system is not within an error of itself")

    def choices(self) -> Choices:
        """Return the choice of all questions, and of all but each fold."""

        def choice(*left_out: int) -> Choice:
            weights = {each.name: self.fitted(each, *left_out) for each in self.systems}
            return Choice(self.choose(*left_out), weights)

        folds = {str(fold): choice(fold) for fold in np.unique(self.folds).tolist()}
        return Choices(len(self.folds), choice(), folds)


def stages_of(system: str) -> int:
    """Return how many stages a system's search has: a question costs about as much as these do.

    Dense retrievers cost alike, tuned or not; BM25 beside them, a ranker over both and a
    cross-encoder in it are a stage more each.
    """
    return system.startswith("hybrid(") + system.count(" + ")


def out_of_fold(
    choices: Choices, clusters: Sequence[str], found: Callable[[Choice, np.ndarray], Found]
) -> Found:
    """Return the results of a set of questions, each by the choice that its fold had no part in.

    Args:
        found: the results of some questions, bool (questions,), by a choice.
    """
    folds = folds_of(clusters)
    parts = [(folds == fold) for fold in np.unique(folds)]
    results = [found(choices.without(int(folds[rows][0])), rows) for rows in parts]
    return Found.joined(results, [np.flatnonzero(rows) for rows in parts])
