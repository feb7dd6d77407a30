"""From evaluation rows to tables, paired differences and a verdict; DuckDB does the sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.evaluation.choosing import Choices
from ragft_pipeline.evaluation.claim import ClaimTest, Paired, not_worse, superior
from ragft_pipeline.evaluation.names import BASE, CANDIDATE, spoken
from ragft_pipeline.evaluation.power import power_sentence
from ragft_pipeline.evaluation.second_stages import RANKER, staged_name
from ragft_pipeline.evaluation.significance import Difference, units_of
from ragft_pipeline.evaluation.systems import CONTEXT, hybrid_name
from ragft_pipeline.retrieval.metrics import METRICS, POOLED, PRIMARY
from ragft_pipeline.retrieval.question_sets import SERVED, SYNTHETIC, TOMORROW
from ragft_pipeline.settings import EvaluationSettings, GateSettings

UNTUNED = hybrid_name(BASE)


@dataclass(frozen=True)
class Pooled:
    """A system on the questions of a set that were judged from pools (metrics.pooled_scores).

    Attributes:
        unjudged: the share of its first ten that nobody judged.
        ndcg, condensed: its nDCG@10, and that without all that nobody judged.
    """

    questions: int
    unjudged: float
    ndcg: float
    condensed: float


@dataclass(frozen=True)
class SystemResult:
    """One system on one question set: means, and its difference to base on the same questions."""

    question_set: str
    system: str
    questions: int
    means: dict[str, float]
    to_base: Difference
    pooled: Pooled | None = None


class EvaluationRows:
    """Reads an EVAL_ROWS table by set and system."""

    def __init__(self, rows: pa.Table, settings: EvaluationSettings) -> None:
        self.settings = settings
        self.rows = rows
        self._groups: dict[tuple[str, str], dict[str, tuple[float, str]]] = {}
        self._units: dict[str, dict[str, str]] = {}
        self._documents: dict[str, int] = {}
        columns = ("question_set", "question_id", "cluster", "relevant")
        asked: dict[str, dict[str, tuple[str, list[str]]]] = {}
        for name, question, cluster, relevant in zip(
            *(rows.column(column).to_pylist() for column in columns)
        ):
            asked.setdefault(name, {})[question] = (cluster, relevant)
        for name, found in asked.items():
            clusters, passages = zip(*found.values())
            self._units[name] = dict(zip(found, units_of(clusters, passages)))
            self._documents[name] = len(set(clusters))
        for name, system, question, score in zip(
            *(
                rows.column(column).to_pylist()
                for column in ("question_set", "system", "question_id", PRIMARY)
            )
        ):
            scored = (score, self._units[name][question])
            self._groups.setdefault((name, system), {})[question] = scored

    def has(self, question_set: str, system: str) -> bool:
        """Say whether a system was run on a set."""
        return (question_set, system) in self._groups

    def count(self, question_set: str) -> int:
        """Return the number of questions of a set."""
        return len(self._units.get(question_set, {}))

    def documents(self, question_set: str) -> int:
        """Return how many document clusters a set's questions are about."""
        return self._documents.get(question_set, 0)

    def scores(self, question_set: str, system: str) -> dict[str, tuple[float, str]]:
        """Return nDCG@10 and the unit of each question that a system answered."""
        return dict(self._groups.get((question_set, system), {}))

    def paired(self, question_set: str, challenger: str, reference: str, title: str = "") -> Paired:
        """Return the scores of two systems on the questions that both answered."""
        left, right = (self.scores(question_set, name) for name in (challenger, reference))
        return Paired.of(title or question_set, left, right)

    def difference(self, question_set: str, challenger: str, reference: str) -> Difference:
        """Return the paired difference in nDCG@10 over the questions both systems answered."""
        return self.paired(question_set, challenger, reference).difference(self.settings)

    def pooled(self, question_set: str, system: str) -> Pooled | None:
        """Return a system's results on the questions of a set that were judged from pools."""
        row = pc.and_(
            pc.equal(self.rows.column("question_set"), question_set),
            pc.equal(self.rows.column("system"), system),
        )
        asked = self.rows.filter(pc.and_(row, self.rows.column(POOLED[0]).is_valid()))
        means = (pc.mean(asked.column(name)).as_py() for name in (POOLED[0], PRIMARY, POOLED[1]))
        return Pooled(asked.num_rows, *means) if asked.num_rows else None

    def mean(self, question_set: str, system: str) -> float:
        """Return the mean nDCG@10 of a system on a set."""
        scores = self._groups.get((question_set, system), {}).values()
        return sum(score for score, _ in scores) / max(1, len(scores))

    def results(self) -> list[SystemResult]:
        """Return every system on every set, in the order they were run."""
        means = ", ".join(f"avg({metric}) AS {metric}" for metric in METRICS)
        with duckdb.connect() as connection:
            connection.register("evaluated", self.rows)
            table = connection.sql(
                f"SELECT question_set, system, count(*) AS questions, {means} "
                "FROM evaluated GROUP BY ALL ORDER BY question_set, system"
            ).to_arrow_table()
        order = list(self._groups)
        rows = sorted(
            table.to_pylist(), key=lambda row: order.index((row["question_set"], row["system"]))
        )
        return [
            SystemResult(
                row["question_set"],
                row["system"],
                row["questions"],
                {metric: row[metric] for metric in METRICS},
                self.difference(row["question_set"], row["system"], BASE),
                self.pooled(row["question_set"], row["system"]),
            )
            for row in rows
        ]


@dataclass(frozen=True)
class Ablation:
    """What a part adds to the system that was chosen: its scores less those of it without."""

    part: str
    without: str
    difference: Difference


@dataclass(frozen=True)
class Verdict:
    """What the numbers say a team should serve.

    Attributes:
        primary_set: the questions that the tables are about.
        candidate: what the questions chose; without people's, the shipped system.
        recommended: the candidate where the claim holds, else the untuned hybrid.
        tests: of the claim that the candidate is better than the untuned hybrid; none without
            people's questions.
        ablations: what each of the candidate's parts adds; they decide nothing.
        to_base: the recommended system's difference to the base embedder.
        sentence: the verdict, in words.
        power: what gain these questions could have shown.
        pooled: what of the first ten nobody judged, where questions were judged from pools.
    """

    primary_set: str
    candidate: str
    recommended: str
    tests: list[ClaimTest]
    ablations: list[Ablation]
    to_base: Difference
    sentence: str
    power: str
    pooled: str = ""

    @property
    def proven(self) -> bool:
        """Whether people's questions prove the candidate better than the untuned hybrid."""
        return bool(self.tests) and all(test.passed is not False for test in self.tests)


def primary_set(rows: EvaluationRows) -> str:
    """Return the set that the tables are about: people's questions where there are enough."""
    if rows.count(SERVED) >= rows.settings.min_gold or not rows.count(SYNTHETIC):
        return SERVED
    return SYNTHETIC


def claim_tests(
    rows: EvaluationRows, reference: str, level: float, gate: GateSettings
) -> list[ClaimTest]:
    """Test the claim that the candidate is better than another system of the same rows.

    Better as served, at a level that is spent; not worse on tomorrow's documents.
    """
    served = rows.paired(SERVED, CANDIDATE, reference, "people's")
    tomorrow = rows.paired(TOMORROW, CANDIDATE, reference, "people's held-out")
    tests = [superior(served, level, gate, rows.settings)]
    return [*tests, not_worse(tomorrow, gate, rows.settings)] if len(tomorrow) else tests


def decide(rows: EvaluationRows, choices: Choices, gate: GateSettings) -> Verdict:
    """Say whether what the questions chose is better than the untuned hybrid, and by what.

    One claim and one paired test, at the level of a first candidate. Without people's questions
    nothing is tested: the shipped system is served, which other corpora's questions chose.
    """
    name, candidate = primary_set(rows), choices.whole.system
    asked = bool(choices.questions) and candidate != UNTUNED
    tests = claim_tests(rows, UNTUNED, gate.alpha / 2, gate) if asked else []
    holds = all(test.passed is not False for test in tests)
    recommended = candidate if holds else UNTUNED
    parts = [
        Ablation(part, other, rows.difference(name, candidate, other))
        for part, other in _without(candidate)
        if rows.has(name, other)
    ]
    to_base = rows.difference(name, recommended, BASE)
    sentence = _sentence(rows, name, choices, recommended, tests, to_base)
    return Verdict(
        name, candidate, recommended, tests, parts, to_base, sentence,
        _power(rows, name, candidate, gate.alpha / 2) if choices.questions else "",
        _pooled(rows, name, candidate if candidate != UNTUNED else BASE),
    )  # fmt: skip


def _without(system: str) -> Iterator[tuple[str, str]]:
    """Yield a system's parts and the system without each."""
    first, *stages = system.split(" + ")
    for number, stage in enumerate(stages):
        yield stage, " + ".join([first, *stages[:number]])
    retriever = first.removeprefix("hybrid(").removesuffix(")")
    simpler = {BASE: (), CONTEXT: (BASE,)}.get(retriever, (CONTEXT, BASE))
    for other in simpler:
        part = "headings above passages" if retriever == CONTEXT else "tuning"
        yield part, system.replace(first, hybrid_name(other), 1)


def _power(rows: EvaluationRows, name: str, candidate: str, level: float) -> str:
    """Say what gain the questions could have shown.

    By the spread of what they chose, or where that is the untuned hybrid, of a ranker over it.
    """
    other = CANDIDATE if candidate != UNTUNED else staged_name(UNTUNED, RANKER)
    pair = rows.paired(name, other, UNTUNED)
    if not len(pair):
        return ""
    about = f"{rows.documents(name)} documents"
    return power_sentence(pair.candidate - pair.reference, pair.units, about, level)


def _pooled(rows: EvaluationRows, name: str, system: str) -> str:
    """Say what of a system's first ten nobody judged, and what it is worth without that."""
    ours, theirs = (rows.pooled(name, each) for each in (system, UNTUNED))
    if ours is None or theirs is None:
        return ""
    return (
        f"{ours.questions} of the questions were judged from pools: of the first ten passages "
        f"nobody judged {ours.unjudged:.0%} of the {spoken(system)}'s and {theirs.unjudged:.0%} of "
        f"the untuned hybrid's. They count as wrong (nDCG@10 {ours.ndcg:.3f} and "
        f"{theirs.ndcg:.3f}); without them it is {ours.condensed:.3f} and {theirs.condensed:.3f}."
    )


def _sentence(
    rows: EvaluationRows,
    name: str,
    choices: Choices,
    recommended: str,
    tests: list[ClaimTest],
    to_base: Difference,
) -> str:
    served = f"nDCG@10 {rows.mean(name, recommended):.3f}"
    if not choices.questions:
        people, synthetic = rows.count(SERVED), rows.count(SYNTHETIC)
        asked = f"only {people} questions of people" if people else "no question of people"
        return (
            f"There is {asked} to decide with, and synthetic ones decide nothing: serve the "
            f"{spoken(recommended)}, which was best on other corpora's questions; {served} on "
            f"{synthetic or people} {'synthetic ' if synthetic else ''}questions."
        )
    asked = f"{rows.count(name)} people's questions about {rows.documents(name)} documents"
    if not tests:
        return f"Keep the untuned hybrid: {served} on {asked}, which choose nothing beside it."
    failed = [test.finding for test in tests if test.passed is False]
    if failed:
        chosen = spoken(choices.whole.system)
        return (
            f"Keep the untuned hybrid: {served} on {asked}. They choose the {chosen}, but it is "
            f"not proven better: {'; '.join(failed)}."
        )
    return (
        f"Use the {spoken(recommended)}: {served} on {asked}, "
        f"{rows.difference(name, CANDIDATE, UNTUNED)} to the untuned hybrid and {to_base} to the "
        "base embedder alone."
    )
