"""Does the gate refuse what is worse, keep out what is no better, and let through what is?

    python -m benchmarks.gate FOLDER [FOLDER …] [--seeds N]

Each folder holds `docs/` and `queries.jsonl`. The champion is the hybrid of BM25 and the adapter
that the pipeline trains; every candidate is judged on the people's test questions (those about
held-out documents where they are enough), as the pipeline does it:

worse       adapters trained at full strength on shuffled labels, one a seed
unchanged   adapters trained as the champion's was, with another seed
better      the best second stage or adapter, by the dev questions, against the untuned hybrid

`nightly` counts the unchanged ones once more, judged one after the other against one champion, the
level spent as it is in production.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.evaluation.retrieval_eval import (
    EvaluationData,
    choosing_set,
    question_sets,
)
from ragft_pipeline.evaluation.summary import UNTUNED, EvaluationRows, primary_set
from ragft_pipeline.evaluation.trial import Models, Trial
from ragft_pipeline.release.gate import Judgement, judge
from ragft_pipeline.release.judging import as_system, paired
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.settings import ExtractiveGenerator, Settings, load_settings
from ragft_pipeline.steps import materialize
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.tuning.adapter import fit_adapter
from ragft_pipeline.tuning.data import Questions

NEEDED = (
    *recipes.RECIPES[: recipes.RECIPES.index(recipes.teacher_scores) + 1],
    recipes.embedding_adapter,
    recipes.late_interaction,
)
ADAPTED = "hybrid(adapter)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks/gate"))
    options = parser.parse_args()
    results = Results("gate")
    lines = ["| corpus | candidates | let through | of | example |", "|---|---|---|---|---|"]
    for folder in options.folders:
        lines += measure(Bench.begin(folder, options.store / folder.name), options.seeds, results)
    print("\n" + "\n".join(lines) + "\n")
    return results.finish()


@dataclass
class Bench:
    """One corpus with its training tables and the champion's rows."""

    name: str
    settings: Settings
    work: Workspace
    tables: dict[str, pa.Table]
    data: EvaluationData
    adapter: Path
    late_interaction: Path

    @classmethod
    def begin(cls, folder: Path, store: Path) -> Bench:
        """Make the data assets and the champion's models, or take them from an earlier run."""
        settings = load_settings()
        questions = settings.questions.model_copy(update={"generators": (ExtractiveGenerator(),)})
        corpus = settings.corpus.model_copy(update={"source": str(folder)})
        settings = settings.model_copy(
            update={"corpus": corpus, "questions": questions, "store": str(store)}
        )
        artifacts = ArtifactStore(settings.store)
        version = SnapshotStore(artifacts).freeze(settings, print).version
        made = {r.name: materialize(r, settings, version, print).artifact for r in NEEDED}
        tables = {recipe.name: made[recipe.name].table() for recipe in NEEDED if recipe.table}
        data = EvaluationData(
            nodes=tables["chunked_nodes"],
            val_pairs=tables["val_qa_pairs"],
            test_pairs=tables["test_qa_pairs"],
            train_pairs=tables["train_qa_pairs"],
            gold=tables["gold_questions"],
        )
        scratch = artifacts.root / "staging" / "gate"
        scratch.mkdir(parents=True, exist_ok=True)
        work = Workspace(artifacts, "gate", scratch)
        models = (made[name].model for name in ("embedding_adapter", "late_interaction"))
        return cls(folder.name, settings, work, tables, data, *models)

    def rows(self, models: Models, *systems: str) -> pa.Table:
        """Return the rows of systems, their weights chosen as the pipeline chooses them."""
        trial = Trial.of(self.data.nodes, models, self.settings, self.work)
        sets, _ = question_sets(self.data, trial, self.settings)
        reporting = {name: asked for name, asked in sets.items() if name != "synthetic_val"}
        choices = trial.choose(choosing_set(sets, self.data, trial, self.settings))
        rows = trial.rows(reporting, choices)
        return pa.concat_tables([as_system(rows, name, name) for name in systems])

    def adapters(self, seeds: int, shuffled: bool) -> Iterator[Path]:
        """Train an adapter a seed, on the true labels or on shuffled ones; return the folders."""
        pairs, teacher = self.tables["train_qa_pairs"], self.tables["teacher_scores"]
        nodes = node_texts(self.tables["train_nodes"])
        encoder = Encoder.base(self.settings.embedder, self.settings.compute)
        for seed in range(1, seeds + 1):
            recipe = self.settings.adapter.model_copy(update={"seed": 1000 + seed})
            settings = self.settings.model_copy(update={"adapter": recipe})
            questions, lists = Questions.from_table(pairs), teacher
            if shuffled:
                questions, lists = shuffle(questions, teacher, seed)
            fitted, _ = fit_adapter(questions, nodes, lists, encoder, settings, self.work)
            folder = self.work.folder / f"{'shuffled' if shuffled else 'again'}-{seed}"
            fitted.shrunk(1.0 if shuffled else self._strength()).save(folder)
            print(f"{self.name}: {folder.name}", flush=True)
            yield folder

    def _strength(self) -> float:
        made = self.adapter.parent
        artifact = self.work.store.find("embedding_adapter", made.name)
        assert artifact is not None
        return float(artifact.facts["strength"])

    def judged(self, candidate: pa.Table, champion: pa.Table, before: int = 0) -> Judgement:
        """Judge one system's rows against another's, as the pipeline does but for the latency."""
        both = pa.concat_tables([_renamed(candidate, "candidate"), _renamed(champion, "champion")])
        rows = EvaluationRows(both, self.settings.evaluation)
        primary = primary_set(_counted(candidate, self.settings))
        others = [paired(name, name, rows) for name in ("gold_test",) if name != primary]
        return judge(
            paired(primary, primary, rows), others, (0.0, 0.0), before,
            self.settings.gate, self.settings.evaluation,
        )  # fmt: skip


def measure(bench: Bench, seeds: int, results: Results) -> list[str]:
    """Judge every kind of candidate; return lines of the table."""
    champion = bench.rows(Models(adapter=bench.adapter), ADAPTED)
    worse = [
        bench.judged(bench.rows(Models(adapter=folder), ADAPTED), champion)
        for folder in bench.adapters(seeds, shuffled=True)
    ]
    again = [bench.rows(Models(adapter=f), ADAPTED) for f in bench.adapters(seeds, shuffled=False)]
    unchanged = [bench.judged(rows, champion) for rows in again]
    nightly = [bench.judged(rows, champion, before) for before, rows in enumerate(again)]
    full = Models(adapter=bench.adapter, late_interaction=bench.late_interaction)
    names = (ADAPTED, f"{UNTUNED} + late interaction", f"{ADAPTED} + late interaction")
    rows = bench.rows(full, UNTUNED, *names)
    seen = EvaluationRows(rows, bench.settings.evaluation)
    best = max(names, key=lambda name: seen.mean("gold_dev", name))
    better = [bench.judged(as_system(rows, best, best), as_system(rows, UNTUNED, UNTUNED))]
    kinds = {"worse": worse, "unchanged": unchanged, "nightly": nightly, "better": better}
    lines = []
    for kind, judged in kinds.items():
        passed = sum(judgement.passed for judgement in judged)
        most = {"worse": 0, "unchanged": max(1, seeds // 20), "nightly": max(1, seeds // 20)}
        results.add(f"{bench.name}/{kind}/candidates", len(judged), "candidates")
        results.add(
            f"{bench.name}/{kind}/let_through", passed, "candidates",
            at_most=most.get(kind), at_least=1 if kind == "better" else None,
        )  # fmt: skip
        gain = float(np.mean([judgement.figures["superior/difference"] for judgement in judged]))
        results.add(f"{bench.name}/{kind}/gain", gain, "nDCG@10")
        title = f"{kind} ({best} against {UNTUNED})" if kind == "better" else kind
        lines.append(f"| {bench.name} | {title} | {passed} | {len(judged)} | {judged[0].why} |")
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


def _counted(rows: pa.Table, settings: Settings) -> EvaluationRows:
    """Return rows under the name that the choice of the primary set counts questions by."""
    return EvaluationRows(_renamed(rows, "base"), settings.evaluation)


def _renamed(rows: pa.Table, name: str) -> pa.Table:
    systems = rows.column("system").unique().to_pylist()
    assert len(systems) == 1, systems
    return as_system(rows, systems[0], name)


if __name__ == "__main__":
    raise SystemExit(main())
