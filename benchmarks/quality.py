"""Does tuning on synthetic questions help on questions that people asked?

    python -m benchmarks.quality FOLDER [FOLDER …]

Each folder holds `docs/` and `queries.jsonl`. The documents alone are the corpus; the pipeline
runs on them with the settings in ragft.yaml, and the people's questions are scored, with two
kinds of models: measured (trained without the test documents) and refitted (on all documents; this
is what a release serves). No question that a person asked trains anything. All of the people's
questions report on dense systems, unless the dev half chose the teacher's weight; then the test
half does. The weights of hybrids and second stages are chosen on the dev half, so the test half
reports; the tables marked `val` have weights chosen on synthetic val questions instead.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.bench_set import make
from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.evaluation.choosing import PEOPLE, Choices
from ragft_pipeline.evaluation.retrieval_eval import (
    EvaluationData,
    own_words_set,
    read_choices,
)
from ragft_pipeline.evaluation.summary import BASE, UNTUNED, EvaluationRows, decide, markdown_table
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.recipes import SPLITS, released_models
from ragft_pipeline.retrieval.question_sets import RelevanceIndex, gold_set
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.steps import Step
from ragft_pipeline.store import ArtifactStore, Workspace

DENSE = (BASE, "adapter", "tuned_embedder", "adapter(tuned_embedder)")
BARS = {  # dense gain over base, full system's gain over the best untuned hybrid
    "covidqa-ccby": (0.10, 0.04),
    "tools-faq": (0.12, 0.08),
}
REFERENCES = (BASE, "bm25", UNTUNED)  # what is promoted must not be surely worse than any of them


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
        measure(folder, options.store / folder.name, results)
    results.keep_others()
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


def measure(folder: Path, store: Path, results: Results) -> None:
    """Run the pipeline on one folder, print its tables and record its figures."""
    settings = load_settings()
    corpus = settings.corpus.model_copy(update={"source": str(folder)})
    settings = settings.model_copy(update={"corpus": corpus, "store": str(store)})
    version, seconds = run(settings)
    artifacts = ArtifactStore(settings.store)
    measured = artifacts.read(version, "retrieval_eval").table()
    refitted = artifacts.read(version, "refit_eval").table()
    by_val = with_val_choices(settings, version)
    teacher = artifacts.read(version, "teacher_scores").facts
    print(f"teacher: BM25 counts {teacher['bm25_weight']}, chosen on {teacher['chosen_on']}")
    reporting = ("gold_test",) if teacher["chosen_on"] == PEOPLE else ("gold_test", PEOPLE)
    for title, kind, rows, bars in (
        ("measured: trained without the test documents", "measured", measured, None),
        ("refitted on all documents", "refit", refitted, BARS.get(folder.name)),
        ("refitted on all documents, weights chosen on val alone", "refit-val", by_val, None),
    ):
        people = people_rows(rows, reporting, settings)
        whole = EvaluationRows(rows, settings.evaluation)
        show(f"{folder.name}, {title}", people, whole)
        record(f"{folder.name}/{kind}", people, whole, results, bars)
    choices = read_choices(artifacts.read(version, "retrieval_eval").path)
    promoted = decide(EvaluationRows(measured, settings.evaluation), choices.to_json()).recommended
    test = EvaluationRows(refitted, settings.evaluation)
    for reference in REFERENCES:
        if promoted != reference:
            gain = test.difference("gold_test", promoted, reference)
            print(f"promoted {promoted} against {reference}: {gain}")
            name = f"{folder.name}/promoted_against_{reference}"
            results.add(f"{name}/gain", gain.mean, "nDCG@10")
            results.add(f"{name}/gain_high", gain.high, "nDCG@10", at_least=0.0)
    results.add(f"{folder.name}/pipeline", seconds, "s")


def show(title: str, people: EvaluationRows, whole: EvaluationRows) -> None:
    print(f"\n## {title}: dense systems, people's questions\n")
    dense = [result for result in people.results() if result.system in DENSE]
    print(markdown_table(dense, "people"))
    print(f"\n## {title}: all systems, people's test questions\n")
    print(markdown_table(whole.results(), "gold_test"), flush=True)


def record(
    prefix: str,
    people: EvaluationRows,
    test: EvaluationRows,
    results: Results,
    bars: tuple[float, float] | None = None,
) -> None:
    """Record the figures of one kind of models; `bars` are the least gains wanted."""
    for system in (BASE, "bm25", UNTUNED):
        results.add(f"{prefix}/{system}", test.mean("gold_test", system), "nDCG@10")
    dense = {
        system: people.difference("people", system, BASE)
        for system in DENSE[1:]
        if people.has("people", system)
    }
    full = {
        result.system: test.difference("gold_test", result.system, UNTUNED)
        for result in test.results()
        if result.question_set == "gold_test" and " + " in result.system
        and not result.system.endswith(" alone") and result.questions == test.count("gold_test")
    }  # fmt: skip
    for part, gains, bar in (("dense", dense, 0), ("full", full, 1)):
        for system, gain in gains.items():
            results.add(f"{prefix}/{system}/gain", gain.mean, "nDCG@10")
            results.add(f"{prefix}/{system}/gain_low", gain.low, "nDCG@10")
            results.add(f"{prefix}/{system}/gain_high", gain.high, "nDCG@10")
        if gains:
            best = max(gains.values(), key=lambda gain: gain.mean)
            least = bars[bar] if bars else None
            results.add(f"{prefix}/best_{part}_gain", best.mean, "nDCG@10", at_least=least)
            low = 0.0 if bars else None
            results.add(f"{prefix}/best_{part}_gain_low", best.low, "nDCG@10", at_least=low)


def with_val_choices(settings: Settings, version: str) -> pa.Table:
    """Return the refitted models' rows with every weight chosen on synthetic val questions."""
    store = ArtifactStore(settings.store)

    def table(asset: str) -> pa.Table:
        return store.read(version, asset).table()

    with store.staging("benchmark") as folder:
        work = Workspace(store, "refit_eval", folder)
        nodes, gold = table("chunked_nodes"), table("gold_questions")
        models = released_models(Step(settings, store, version, work))
        trial = Trial.of(nodes, models, settings, work)
        pairs = (table(f"{split}_qa_pairs") for split in SPLITS)
        train, val, test = pairs
        data = EvaluationData(nodes, val_pairs=val, test_pairs=test, train_pairs=train, gold=gold)
        choices: Choices = trial.choose(own_words_set(data, trial, settings))
        print(f"chosen on val: {choices}")
        print(f"chosen on dev: {read_choices(store.read(version, 'retrieval_eval').path)}")
        index = RelevanceIndex(nodes, trial.column)
        sets = {f"gold_{p}": gold_set(f"gold_{p}", gold, p, index) for p in ("test", "dev")}
        return trial.rows({n: s.all_seen() for n, s in sets.items() if len(s)}, choices)


def run(settings: Settings) -> tuple[str, float]:
    """Freeze and materialize all that is measured; return the version and the seconds it took."""
    start = time.monotonic()
    version = SnapshotStore(ArtifactStore(settings.store)).freeze(settings, print).version
    make(settings, version, recipes.refit_eval)
    return version, time.monotonic() - start


def people_rows(rows: pa.Table, sets: tuple[str, ...], settings: Settings) -> EvaluationRows:
    """Return the people's questions of some sets as one set, `people`."""
    gold = rows.filter(pc.is_in(rows.column("question_set"), pa.array(sets)))
    column = rows.schema.get_field_index("question_set")
    names = pa.array(["people"] * gold.num_rows)
    return EvaluationRows(gold.set_column(column, "question_set", names), settings.evaluation)


if __name__ == "__main__":
    raise SystemExit(main())
