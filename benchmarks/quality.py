"""Does tuning on synthetic questions help on questions that people asked?

    python -m benchmarks.quality FOLDER [FOLDER …]

Each folder holds `docs/` and `queries.jsonl`. The documents alone are the corpus; the pipeline
runs on them with the settings in ragft.yaml, and the people's questions are scored. Dense systems
are chosen on synthetic val questions only, so all of the people's questions report on them; the
hybrids' weights are chosen on the dev half, so the test half reports.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.results_file import Results
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.evaluation.summary import BASE, EvaluationRows, markdown_table
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.steps import materialize
from ragft_pipeline.store import ArtifactStore

DENSE = (BASE, "tuned_embedder", "adapter")
MIN_GAIN = 0.03


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks"))
    options = parser.parse_args()
    results = Results("quality")
    for folder in options.folders:
        measure(folder, options.store / folder.name, results)
    return results.finish()


def measure(folder: Path, store: Path, results: Results) -> None:
    """Run the pipeline on one folder, print its tables and record its figures."""
    settings = load_settings()
    corpus = settings.corpus.model_copy(update={"source": str(folder)})
    settings = settings.model_copy(update={"corpus": corpus, "store": str(store)})
    version, seconds = run(settings)
    rows = ArtifactStore(settings.store).read(version, "retrieval_eval").table()
    people = people_rows(rows, settings)
    print(f"\n## {folder.name}: all people's questions, dense systems\n")
    dense = people.rows.filter(pc.is_in(people.rows.column("system"), pa.array(DENSE)))
    print(markdown_table(EvaluationRows(dense, settings.evaluation).results(), "people"))
    print(f"\n## {folder.name}: people's test questions, all systems\n")
    whole = EvaluationRows(rows, settings.evaluation)
    print(markdown_table(whole.results(), "gold_test"), flush=True)
    gains = {name: people.difference("people", name, BASE) for name in DENSE[1:]}
    results.add(f"{folder.name}/base", people.mean("people", BASE), "nDCG@10")
    for name, gain in gains.items():
        results.add(f"{folder.name}/{name}", people.mean("people", name), "nDCG@10")
        results.add(f"{folder.name}/{name}/gain", gain.mean, "nDCG@10")
        results.add(f"{folder.name}/{name}/gain_low", gain.low, "nDCG@10")
        results.add(f"{folder.name}/{name}/gain_high", gain.high, "nDCG@10")
    best = max(gain.mean for gain in gains.values())
    results.add(f"{folder.name}/best_dense_gain", best, "nDCG@10", at_least=MIN_GAIN)
    results.add(f"{folder.name}/pipeline", seconds, "s")


def run(settings: Settings) -> tuple[str, float]:
    """Freeze and materialize everything; return the version and the seconds it took."""
    start = time.monotonic()
    version = SnapshotStore(ArtifactStore(settings.store)).freeze(settings, print).version
    for recipe in RECIPES:
        materialize(recipe, settings, version, lambda line: print(line, flush=True))
    return version, time.monotonic() - start


def people_rows(rows: pa.Table, settings: Settings) -> EvaluationRows:
    """Return dev and test questions of people as one set, `people`."""
    gold = rows.filter(pc.starts_with(rows.column("question_set"), "gold_"))
    column = rows.schema.get_field_index("question_set")
    names = pa.array(["people"] * gold.num_rows)
    return EvaluationRows(gold.set_column(column, "question_set", names), settings.evaluation)


if __name__ == "__main__":
    raise SystemExit(main())
