"""Does what people are served find more of what they asked for?

    python -m benchmarks.quality FOLDER [FOLDER …]

Each folder holds `docs/` and `queries.jsonl`. The pipeline runs on it with the settings in
ragft.yaml, and its own evaluation says what people's questions find as served and of tomorrow's
documents. No question that a person asked trains anything. Beside it stands today's system: base
embedder, BM25 without stems and late interaction, passages alone, two weights from the other folds.

A store keeps what is made: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_set import make
from benchmarks.people import ranked, two_weights
from benchmarks.question_latency import compare_latency
from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.evaluation.choosing import Choices, Ranked, legible
from ragft_pipeline.evaluation.claim import Paired
from ragft_pipeline.evaluation.names import CANDIDATE
from ragft_pipeline.evaluation.nodes import Nodes
from ragft_pipeline.evaluation.retrieval_eval import peoples_questions, synthetic_questions
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.evaluation.significance import paired_difference, units_of
from ragft_pipeline.evaluation.summary import UNTUNED, EvaluationRows
from ragft_pipeline.evaluation.systems import BASE, BM25, CONTEXT
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.lineage.steps import Step
from ragft_pipeline.recipes import released_models
from ragft_pipeline.recipes.evaluation import evaluation_data
from ragft_pipeline.recipes.reading import reading
from ragft_pipeline.retrieval.question_sets import SERVED, TOMORROW, QuestionSet
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.store import ArtifactStore, Workspace

DENSE_RETRIEVERS = (CONTEXT, "adapter", "tuned_embedder", "adapter(tuned_embedder)")
FULL = {"covidqa-ccby": 0.745, "tools-faq": 0.69, "sample": 0.515}  # nDCG@10 wanted, as served
DENSE = {"covidqa-ccby": 0.13, "tools-faq": 0.13}  # gain of the best dense retriever over base
DENSE_MEAN = {"cmrc2018": 0.478}
GAINS = ("covidqa-ccby", "sample")  # where the gain over today's system is to be proven
UNASKED = -0.01  # without people's questions: the least low end of the interval
NUMBERS = (0, 30, 60, 120, None)
SLOWER = 1.5  # a question with the ranker against one with late interaction, medians
SHARE = 0.2  # of an evaluation's seconds that rankers take


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks"))
    parser.add_argument("--documents", type=int, help="only so many documents, the first by name")
    options = parser.parse_args()
    results = Results("quality")
    for given in options.folders:
        whole, part = first_version(given, options.store / "subsets"), options.documents
        folder = subset(whole, part, options.store / "subsets") if part else whole
        measure(folder, given.name, options.store / folder.name, results)
        results.keep_others()
        results.save()
    return results.finish()


def first_version(folder: Path, below: Path) -> Path:
    """Copy the first version of a set that has several, with its questions; else the set itself."""
    if not (folder / "v1").is_dir():
        return folder
    copy = below / folder.name
    shutil.copytree(folder / "v1" / "docs", copy / "docs", dirs_exist_ok=True)
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    asked = [{"id": r["id"], "question": r["question"], **r["v1"]} for r in rows if r.get("v1")]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in asked)
    (copy / "queries.jsonl").write_text(text, encoding="utf-8")
    return copy


def subset(folder: Path, documents: int, below: Path) -> Path:
    """Copy the first documents by name, and the questions about them; return the copy."""
    part = below / f"{folder.name}-{documents}"
    (part / "docs").mkdir(parents=True, exist_ok=True)
    for file in sorted((folder / "docs").iterdir())[:documents]:
        shutil.copyfile(file, part / "docs" / file.name)
    kept = {file.name for file in (part / "docs").iterdir()}
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [line for line in lines if Path(json.loads(line)["doc"]).name in kept]
    (part / "queries.jsonl").write_text("\n".join(asked) + "\n", encoding="utf-8")
    return part


def measure(folder: Path, name: str, store: Path, results: Results) -> None:
    """Run the pipeline on one folder, print its tables and record its figures."""
    settings = load_settings()
    corpus = settings.corpus.model_copy(update={"source": str(folder)})
    settings = settings.model_copy(update={"corpus": corpus, "store": str(store)})
    version, seconds = run(settings)
    results.add(f"{name}/pipeline", seconds, "s")
    artifacts = ArtifactStore(settings.store)
    evaluated = artifacts.read(version, "retrieval_eval")
    facts = evaluated.facts
    share = float(facts["ranker_seconds"]) / max(1e-9, float(facts["compute_seconds"]))
    results.add(f"{name}/ranker_share_of_evaluation", share, "share", at_most=SHARE)
    with artifacts.staging("benchmark") as staged:
        work = Workspace(artifacts, "retrieval_eval", staged)
        step = Step(settings, artifacts, version, work)
        read = reading(step)
        print(f"\n## {name}: context {read.passages.context}", flush=True)
        data = evaluation_data(step)
        trial = Trial.of("quality", data.nodes, released_models(step), read, work)
        people = peoples_questions(data, read)
        units = units_of(people.clusters, people.relevant)
        today = two_weights(today_trial(step, settings, work), people)
        rows = EvaluationRows(evaluated.table(), settings.evaluation)
        choices = Choices.load(evaluated.path)
        as_served(name, rows, choices, dict(zip(people.ids, zip(today, units))), results)
        _, synthetic, _ = synthetic_questions(data, read)
        trial.legible = legible(trial.measure(synthetic, only=(BASE, BM25)))
        results.add(f"{name}/legible", trial.legible, "of 1")
        numbers(name, trial, people, units, today, results)
        compare_latency(name, step, read, people.texts, SLOWER, results)


def today_trial(step: Step, settings: Settings, work: Workspace) -> Trial:
    """Return the trial of the system before context and stems."""
    off = settings.passages.model_copy(update={"context": "off", "language": "off"})
    models = Models(late_interaction=step.artifact("late_interaction").model)
    plain = settings.model_copy(update={"passages": off})
    nodes = Nodes(step.artifact("chunked_nodes").table_path())
    trial = Trial.of("today", nodes, models, plain, work)
    assert trial.late_interaction is not None
    scorer: Any = trial.late_interaction.scorer
    scorer.stretch = 0.0  # MaxSim of whole passages, before any pair is scored
    return trial


def as_served(
    name: str,
    rows: EvaluationRows,
    choices: Choices,
    today: dict[str, tuple[float, str]],
    results: Results,
) -> None:
    """Print what the evaluation found, each question by what it did not fit, beside today's."""
    for asked in (SERVED, TOMORROW):
        systems = [r.system for r in rows.results() if r.question_set == asked]
        print(f"\n### {name}, {asked}: {rows.count(asked)} questions\n")
        print("| system | nDCG@10 | to today's, 95% | to the untuned hybrid | to base |")
        print("|---|---|---|---|---|")
        for system in systems:
            to_today = Paired.of(asked, rows.scores(asked, system), today).difference(rows.settings)
            others = [rows.difference(asked, system, other) for other in (UNTUNED, BASE)]
            gains = " | ".join(map(str, (to_today, *others)))
            print(f"| {system} | {rows.mean(asked, system):.4f} | {gains} |", flush=True)
            results.add(f"{name}/{asked}/{system}", rows.mean(asked, system), "nDCG@10")
    mean = float(np.mean([score for score, _ in today.values()]))
    results.add(f"{name}/{SERVED}/today: two weights", mean, "nDCG@10")
    chosen = choices.whole.system
    print(f"\nchosen: {chosen}; today's: {mean:.4f}", flush=True)
    full = rows.mean(SERVED, chosen)
    gain = Paired.of(SERVED, rows.scores(SERVED, CANDIDATE), today).difference(rows.settings)
    low = 0.0 if name in GAINS else None
    results.add(f"{name}/full", full, "nDCG@10", at_least=FULL.get(name))
    results.add(f"{name}/full/gain_low", gain.low, "nDCG@10", at_least=low)
    results.add(f"{name}/full/gain_high", gain.high, "nDCG@10", at_least=0.0)
    untuned = rows.difference(SERVED, CANDIDATE, UNTUNED)
    results.add(f"{name}/full/over_untuned", untuned.mean, "nDCG@10")
    results.add(
        f"{name}/full/over_untuned_low", untuned.low, "nDCG@10",
        at_least=None if name.startswith("cmrc") else 0.0,
    )  # fmt: skip
    if name.startswith("cmrc"):
        results.add(f"{name}/full/over_bm25", full - rows.mean(SERVED, BM25), "", at_least=0.0)
    dense = [each for each in DENSE_RETRIEVERS if rows.has(SERVED, each)]
    best = max(dense, key=lambda each: rows.mean(SERVED, each))
    over = rows.difference(SERVED, best, BASE)
    results.add(f"{name}/dense/gain", over.mean, "nDCG@10", at_least=DENSE.get(name))
    mean = rows.mean(SERVED, best)
    results.add(f"{name}/dense", mean, "nDCG@10", at_least=DENSE_MEAN.get(name))


def numbers(
    name: str,
    trial: Trial,
    people: QuestionSet,
    units: list[str],
    today: np.ndarray,
    results: Results,
) -> None:
    """Print what so many questions about other documents make of each ranker."""
    print(f"\n### {name}: questions that fit the ranker\n")
    print("| system | 0 | 30 | 60 | 120 | all |\n|---|---|---|---|---|---|")
    for system in trial.measure(people):
        if not isinstance(system, Ranked):
            continue
        scores = [ranked(system, people, number) for number in NUMBERS]
        print(f"| {system.name} | {' | '.join(f'{each.mean():.4f}' for each in scores)} |")
        for number, each in zip(NUMBERS, scores):
            label = "all" if number is None else number
            results.add(f"{name}/fitted_on_{label}/{system.name}", each.mean(), "nDCG@10")
        if system.name == trial.prior:
            unasked = paired_difference(scores[0], today, units)
            print(f"without a question, to today's: {unasked}", flush=True)
            results.add(f"{name}/unasked/gain_low", unasked.low, "nDCG@10", at_least=UNASKED)


def run(settings: Settings) -> tuple[str, float]:
    """Freeze and materialize all that is measured; return the version and the seconds it took."""
    start = time.monotonic()
    version = SnapshotStore(ArtifactStore(settings.store)).freeze(settings, print).version
    make(settings, version, recipes.retrieval_eval)
    return version, time.monotonic() - start


if __name__ == "__main__":
    raise SystemExit(main())
