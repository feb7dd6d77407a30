"""Does what people are served find more of what they asked for?

    python -m benchmarks.quality FOLDER [FOLDER …]

Each folder holds `docs/` and `queries.jsonl`. The pipeline runs on it with the settings in
ragft.yaml and every question that people asked scores what is released (`as served`), with weights
from questions about other documents; those about documents that trained nothing score the measured
models as well (`tomorrow's documents`). No question that a person asked trains anything. Beside
them stands today's system: base embedder, BM25 without stems and late interaction, passages alone,
two weights from the other folds.

A store keeps what is made: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np

from benchmarks.bench_set import joined, make
from benchmarks.people import best_elsewhere, first_stages, ranked, two_weights
from benchmarks.question_latency import compare_latency
from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.evaluation.significance import Difference, paired_difference
from ragft_pipeline.evaluation.systems import BASE, hybrid_name
from ragft_pipeline.evaluation.trial import Models, Trial
from ragft_pipeline.recipes import released_models
from ragft_pipeline.recipes.evaluation import measured_models
from ragft_pipeline.recipes.reading import reading
from ragft_pipeline.retrieval.question_sets import QuestionSet, RelevanceIndex, gold_set
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.steps import Step
from ragft_pipeline.store import ArtifactStore, Workspace

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
    facts = artifacts.read(version, "retrieval_eval").facts
    share = float(facts["ranker_seconds"]) / max(1e-9, float(facts["compute_seconds"]))
    results.add(f"{name}/ranker_share_of_evaluation", share, "share", at_most=SHARE)
    with artifacts.staging("benchmark") as staged:
        work = Workspace(artifacts, "retrieval_eval", staged)
        step = Step(settings, artifacts, version, work)
        read = reading(step)
        print(f"\n## {name}: context {read.passages.context}", flush=True)
        served = Trial.of(step.table("chunked_nodes"), released_models(step), read, work)
        people = asked(step, served)
        today = two_weights(today_trial(step, settings, work), people)
        as_served(name, served, people, today, results)
        measured = Trial.of(step.table("chunked_nodes"), measured_models(step), read, work)
        tomorrow(name, measured, people, today, results)
        compare_latency(name, step, read, people.texts, SLOWER, results)


def today_trial(step: Step, settings: Settings, work: Workspace) -> Trial:
    """Return the trial of the system before context and stems."""
    off = settings.passages.model_copy(update={"context": "off", "language": "off"})
    models = Models(late_interaction=step.artifact("late_interaction").model)
    plain = settings.model_copy(update={"passages": off})
    return Trial.of(step.table("chunked_nodes"), models, plain, work)


def asked(step: Step, trial: Trial) -> QuestionSet:
    """Return every question that people asked."""
    nodes, gold = step.table("chunked_nodes"), step.table("gold_questions")
    index = RelevanceIndex(nodes, trial.column)
    return joined([gold_set("people", gold, part, index) for part in ("dev", "test")])


def as_served(
    name: str, trial: Trial, people: QuestionSet, today: np.ndarray, results: Results
) -> None:
    """Score what is released on every question."""
    found = first_stages(trial, people)
    gathered = trial.gather(people)
    systems = {hybrid: ranked(candidates, people) for hybrid, candidates in gathered.items()}
    full = best_elsewhere(list(systems.values()), people.clusters)
    rows = {**found, **{f"{hybrid} + ranker": scores for hybrid, scores in systems.items()}}
    rows |= {"today: two weights": today, "served: the best ranker on other folds": full}
    print(f"\n### {name}, as served: {len(people)} questions\n")
    print("| system | nDCG@10 | to today's, 95% | to base |\n|---|---|---|---|")
    for system, scores in rows.items():
        gains = (difference(scores, other, people) for other in (today, found[BASE]))
        print(f"| {system} | {scores.mean():.4f} | {' | '.join(map(str, gains))} |", flush=True)
        results.add(f"{name}/served/{system}", scores.mean(), "nDCG@10")
    gain = difference(full, today, people)
    low = 0.0 if name in GAINS else None
    results.add(f"{name}/full", full.mean(), "nDCG@10", at_least=FULL.get(name))
    results.add(f"{name}/full/gain_low", gain.low, "nDCG@10", at_least=low)
    results.add(f"{name}/full/gain_high", gain.high, "nDCG@10", at_least=0.0)
    if name.startswith("cmrc"):
        results.add(f"{name}/full/over_bm25", full.mean() - found["bm25"].mean(), "", at_least=0.0)
    dense = {each.name: found[each.name] for each in trial.stages.retrievers[1:]}
    best = max(dense, key=lambda each: dense[each].mean())
    gain = difference(dense[best], found[BASE], people)
    results.add(f"{name}/dense/gain", gain.mean, "nDCG@10", at_least=DENSE.get(name))
    mean = dense[best].mean()
    results.add(f"{name}/dense", mean, "nDCG@10", at_least=DENSE_MEAN.get(name))
    unfitted = [hybrid for hybrid in gathered if hybrid in map(hybrid_name, (BASE, "context"))]
    numbers(name, {h: gathered[h] for h in (*unfitted, hybrid_name(best))}, people, today, results)


def numbers(
    name: str, gathered: dict, people: QuestionSet, today: np.ndarray, results: Results
) -> None:
    """Print what so many questions about other documents make of each ranker."""
    print(f"\n### {name}: questions that fit the ranker\n")
    print("| over | 0 | 30 | 60 | 120 | all |\n|---|---|---|---|---|---|")
    for hybrid, candidates in gathered.items():
        scores = [ranked(candidates, people, number) for number in NUMBERS]
        print(f"| {hybrid} | {' | '.join(f'{each.mean():.4f}' for each in scores)} |", flush=True)
        for number, each in zip(NUMBERS, scores):
            label = "all" if number is None else number
            results.add(f"{name}/fitted_on_{label}/{hybrid}", each.mean(), "nDCG@10")
        last = difference(scores[0], today, people)
        print(f"without a question, to today's: {last}", flush=True)
    results.add(f"{name}/unasked/gain_low", last.low, "nDCG@10", at_least=UNASKED)


def tomorrow(
    name: str, trial: Trial, people: QuestionSet, today: np.ndarray, results: Results
) -> None:
    """Score the measured models on questions about documents that trained nothing."""
    own = np.flatnonzero(people.held_out)
    if not len(own):
        return
    print(f"\n### {name}, tomorrow's documents: {len(own)} questions\n")
    clusters = [people.clusters[row] for row in own]
    for hybrid, candidates in trial.gather(people).items():
        scores = ranked(candidates, people)
        gain = paired_difference(scores[own], today[own], clusters)
        print(f"{hybrid} + ranker: {scores[own].mean():.4f}, to today's {gain}", flush=True)
        results.add(f"{name}/tomorrow/{hybrid} + ranker", scores[own].mean(), "nDCG@10")
    results.add(f"{name}/tomorrow/today", today[own].mean(), "nDCG@10")


def difference(scores: np.ndarray, other: np.ndarray, people: QuestionSet) -> Difference:
    return paired_difference(scores, other, people.clusters)


def run(settings: Settings) -> tuple[str, float]:
    """Freeze and materialize all that is measured; return the version and the seconds it took."""
    start = time.monotonic()
    version = SnapshotStore(ArtifactStore(settings.store)).freeze(settings, print).version
    make(settings, version, recipes.refit_eval)
    return version, time.monotonic() - start


if __name__ == "__main__":
    raise SystemExit(main())
