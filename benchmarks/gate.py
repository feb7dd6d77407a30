"""Does the gate refuse what is worse, keep out what is no better, and let through what is?

    python -m benchmarks.gate FOLDER [FOLDER …] [--seeds N]

Each folder holds `docs/` and `queries.jsonl`; people's questions judge, as the pipeline does it:

worse       the champion's system over maps trained on shuffled labels, at full strength, one a seed
unchanged   over maps trained as the champion's were, with another seed
nightly     the unchanged ones once more, one after the other against one champion
better      what the questions choose against the untuned hybrid, chosen and judged anew on each of
            as many resamplings of the people's questions (by document cluster)
power       how often the old rule and this one promote a true gain (`benchmarks.power`)

A store keeps what is made, the same as `benchmarks.quality` uses.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.bench_set import make
from benchmarks.power import power_table
from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.evaluation.choosing import (
    Choices,
    CrossFit,
    Fused,
    Plain,
    Ranked,
    System,
    out_of_fold,
)
from ragft_pipeline.evaluation.claim import Paired
from ragft_pipeline.evaluation.nodes import Nodes
from ragft_pipeline.evaluation.retrieval_eval import peoples_questions, served_names
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.evaluation.second_stages import RANKER, staged_name
from ragft_pipeline.evaluation.significance import units_of
from ragft_pipeline.evaluation.summary import UNTUNED, EvaluationRows
from ragft_pipeline.evaluation.systems import hybrid_name
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.lineage.steps import Step
from ragft_pipeline.recipes import released_models
from ragft_pipeline.recipes.evaluation import evaluation_data
from ragft_pipeline.recipes.reading import read_nodes, read_scores, reading
from ragft_pipeline.release.gate import Judgement, judge
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.evidence import Candidates
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.tuning.adapter import fit_adapter
from ragft_pipeline.tuning.data import Questions

MAPPED = staged_name(hybrid_name("adapter"), RANKER)
BETTER = 0.9  # of the resamplings let what is better through


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks"))
    options = parser.parse_args()
    results = Results("gate")
    lines = ["| corpus | candidates | let through | of | example |", "|---|---|---|---|---|"]
    for folder in options.folders:
        settings = load_settings()
        corpus = settings.corpus.model_copy(update={"source": str(folder)})
        store = str(options.store / folder.name)
        settings = settings.model_copy(update={"corpus": corpus, "store": store})
        artifacts = ArtifactStore(settings.store)
        version = SnapshotStore(artifacts).freeze(settings, print).version
        make(settings, version, recipes.retrieval_eval)
        with artifacts.staging("benchmark") as staged:
            work = Workspace(artifacts, "embedding_adapter", staged)
            step = Step(settings, artifacts, version, work)
            lines += measure(Bench.begin(folder.name, step), options.seeds, results)
        rows = EvaluationRows(
            artifacts.read(version, "retrieval_eval").table(), settings.evaluation
        )
        power_table(folder.name, rows, settings, results)
        results.save()
    print("\n" + "\n".join(lines) + "\n")
    return results.finish()


@dataclass
class Bench:
    """One corpus, its evaluated version and the people's questions."""

    name: str
    step: Step
    settings: Settings
    people: QuestionSet
    units: list[str]

    @classmethod
    def begin(cls, name: str, step: Step) -> Bench:
        """Read what the pipeline made."""
        settings = reading(step)
        people = peoples_questions(evaluation_data(step), settings)
        return cls(name, step, settings, people, units_of(people.clusters, people.relevant))

    def trial(self, models: Models) -> Trial:
        """Return the trial of some models."""
        nodes = Nodes(self.step.artifact("chunked_nodes").table_path())
        return Trial.of("gate", nodes, models, self.settings, self.step.work)

    def mapped(self, adapter: Path) -> np.ndarray:
        """Return nDCG@10 of the ranker over an adapter's hybrid, cross-fitted."""
        released = released_models(self.step)
        models = Models(adapter=adapter, late_interaction=released.late_interaction)
        systems = self.trial(models).measure(self.people, only=(MAPPED,))
        fit = CrossFit(systems, (MAPPED,), self.people.clusters, self.units, MAPPED)
        return fit.scores(systems[0])

    def adapters(self, seeds: int, shuffled: bool) -> Iterator[Path]:
        """Train an adapter a seed, on the true labels or on shuffled ones; yield the folders."""
        step = self.step
        pairs, teacher = step.table("train_qa_pairs"), read_scores(step, "teacher_scores")
        nodes = node_texts(read_nodes(step, "train_nodes"))
        encoder = Encoder.base(self.settings.embedder, self.settings.compute)
        strength = float(step.artifact("embedding_adapter").facts["strength"])
        for seed in range(1, seeds + 1):
            recipe = self.settings.adapter.model_copy(update={"seed": 1000 + seed})
            settings = self.settings.model_copy(update={"adapter": recipe})
            questions, lists = Questions.from_table(pairs), teacher
            if shuffled:
                questions, lists = shuffle(questions, teacher, seed)
            fitted, _ = fit_adapter(questions, nodes, lists, encoder, settings, step.work)
            folder = step.work.folder / f"{'shuffled' if shuffled else 'again'}-{seed}"
            fitted.shrunk(1.0 if shuffled else strength).save(folder)
            print(f"{self.name}: {folder.name}", flush=True)
            yield folder

    def judged(self, candidate: np.ndarray, champion: np.ndarray, before: int = 0) -> Judgement:
        """Judge scores as the gate does but for the latency; tomorrow's documents as well."""
        own = np.flatnonzero(self.people.held_out)
        units = np.array(self.units)
        later = Paired("people's held-out", candidate[own], champion[own], units[own].tolist())
        return judge(
            Paired("people's", candidate, champion, self.units), [later], (0.0, 0.0), before,
            self.settings.gate, self.settings.evaluation,
        )  # fmt: skip

    def resampled(self, seeds: int) -> Iterator[Judgement]:
        """Choose and judge on resamplings of the people's questions by document cluster."""
        trial = self.trial(released_models(self.step))
        systems, clusters = trial.measure(self.people), np.array(self.people.clusters)
        names = np.unique(clusters)
        for seed in range(1, seeds + 1):
            drawn = np.random.default_rng(seed).choice(names, len(names))
            places = np.concatenate([np.flatnonzero(clusters == name) for name in drawn])
            taken = [at(system, places) for system in systems]
            own, units = clusters[places].tolist(), np.array(self.units)[places].tolist()
            fit = CrossFit(taken, served_names(systems, trial), own, units, trial.prior)
            choices = fit.choices()
            candidate, untuned = (scores_of(name, taken, choices, own) for name in (None, UNTUNED))
            pair = Paired("people's", candidate, untuned, units)
            judged = judge(
                pair, [], (0.0, 0.0), 0, self.settings.gate, self.settings.evaluation
            )  # fmt: skip
            print(f"{self.name}: {choices.whole.system}, {judged.why}", flush=True)
            yield judged


def scores_of(
    name: str | None, systems: list[System], choices: Choices, clusters: list[str]
) -> np.ndarray:
    """Return nDCG@10 of a system, or of what the folds chose, each question by the other folds."""
    by_name = {system.name: system for system in systems}
    return out_of_fold(
        choices,
        clusters,
        lambda choice, rows: by_name[name or choice.system].found(
            choice.weights[name or choice.system], rows
        ),
    ).primary


def at(system: System, places: np.ndarray) -> System:
    """Return a system over some of its questions, in any number."""
    if isinstance(system, Plain):
        return replace(system, result=system.result.at(places))
    if isinstance(system, Fused):
        return replace(system, results=[one.at(places) for one in system.results])
    assert isinstance(system, Ranked)
    found = system.candidates
    part = Candidates(found.nodes[places], found.features[places], found.names)
    return Ranked(system.name, part, system.questions.at(places), system.legible)


def measure(bench: Bench, seeds: int, results: Results) -> list[str]:
    """Judge every kind of candidate; return lines of the table."""
    adapter = released_models(bench.step).adapter
    assert adapter is not None
    champion = bench.mapped(adapter)
    worse = [
        bench.judged(bench.mapped(folder), champion)
        for folder in bench.adapters(seeds, shuffled=True)
    ]
    again = [bench.mapped(folder) for folder in bench.adapters(seeds, shuffled=False)]
    first, *others = again  # trained alike, on the train documents alone
    unchanged = [bench.judged(scores, first) for scores in others]
    nightly = [bench.judged(scores, first, before) for before, scores in enumerate(others)]
    better = list(bench.resampled(seeds))
    kinds = {"worse": worse, "unchanged": unchanged, "nightly": nightly, "better": better}
    most = {"worse": 0, "unchanged": max(1, seeds // 20), "nightly": max(1, seeds // 20)}
    lines = []
    for kind, judged in kinds.items():
        passed = sum(judgement.passed for judgement in judged)
        results.add(f"{bench.name}/{kind}/candidates", len(judged), "candidates")
        results.add(
            f"{bench.name}/{kind}/let_through", passed, "candidates",
            at_most=most.get(kind), at_least=BETTER * seeds if kind == "better" else None,
        )  # fmt: skip
        gain = float(np.mean([judgement.figures["superior/difference"] for judgement in judged]))
        results.add(f"{bench.name}/{kind}/gain", gain, "nDCG@10")
        lines.append(f"| {bench.name} | {kind} | {passed} | {len(judged)} | {judged[0].why} |")
    return lines


def shuffle(questions: Questions, teacher: pa.Table, seed: int) -> tuple[Questions, pa.Table]:
    """Give every question another one's source node and teacher scores."""
    order = np.random.default_rng(seed).permutation(len(questions))
    moved = Questions(questions.ids, questions.texts, [questions.node_ids[i] for i in order])
    place = {question_id: row for row, question_id in enumerate(questions.ids)}
    given = teacher.column("question_id").to_pylist()
    row_of = {question_id: row for row, question_id in enumerate(given)}
    taken = teacher.take([row_of[questions.ids[order[place[q]]]] for q in given])
    column = taken.schema.get_field_index("question_id")
    return moved, taken.set_column(column, taken.schema.field(column), [given])


if __name__ == "__main__":
    raise SystemExit(main())
