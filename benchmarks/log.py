"""Does a log of questions without answers help?

    python -m benchmarks.log FOLDER [FOLDER …]

Each folder holds `docs/` and `queries.jsonl`. People's questions about half of the documents,
without their labels, are the log; those about the other half are scored, by the adapter that
serves: trained on all documents, with the log and without. No test question, nor one that is nearly
one, is in what trains (asserted).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.bench_set import Bench, make
from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.corpus.splits import minhash_signature, near_duplicates
from ragft_pipeline.evaluation.significance import Difference, paired_difference
from ragft_pipeline.questions.log import plain, question_id
from ragft_pipeline.questions.log_parts import TRAIN, log_parts
from ragft_pipeline.retrieval.folds import folds_of
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.tuning.adapter import fit_adapter
from ragft_pipeline.tuning.data import Questions
from ragft_pipeline.tuning.teacher import score_with_teacher

SIZES = (50, 200, 0)  # 0: all of them
SEEDS = 3
REPORTING = 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks/log"))
    options = parser.parse_args()
    results = Results("log")
    lines = ["| corpus | questions of the log | without | gain |", "|---|---|---|---|"]
    for folder in options.folders:
        lines += measure(folder, options.store / folder.name, results)
    print("\n" + "\n".join(lines) + "\n")
    results.keep_others()
    return results.finish()


def measure(folder: Path, store: Path, results: Results) -> list[str]:
    bench = Bench.begin(folder, store, fresh=False)
    pairs_of = [getattr(recipes, f"{split}_qa_pairs") for split in recipes.SPLITS]
    made = make(bench.settings, bench.version, recipes.embedding_adapter, *pairs_of)
    pairs = pa.concat_tables([made[recipe.name].table() for recipe in pairs_of])
    statistics = TermStatistics.from_table(made["corpus_statistics"].table())
    weight = float(made["teacher_scores"].facts["bm25_weight"])
    strength = float(made["embedding_adapter"].facts["strength"])
    scratch = ArtifactStore(bench.settings.store).root / "staging" / "log"
    scratch.mkdir(parents=True, exist_ok=True)
    work = Workspace(ArtifactStore(bench.settings.store), "log", scratch)
    texts = node_texts(bench.nodes)
    gold = made["gold_questions"].table()
    log = log_of(gold, bench)
    places = np.flatnonzero(folds_of(bench.people.clusters, 2) == REPORTING).tolist()
    vectors = bench.question_vectors[places]
    bench = replace(bench, people=bench.people.at(places), question_vectors=vectors)

    def taught(table: pa.Table) -> pa.Table:
        settings = bench.settings
        return score_with_teacher(table, bench.nodes, statistics, weight, settings, work)

    scores, asked = taught(pairs), taught(log)

    def served(number: int) -> np.ndarray:
        """Return nDCG@10 of the test questions with so many questions of the log, by seeds."""
        found = []
        for seed in range(SEEDS):
            recipe = bench.settings.adapter.model_copy(update={"seed": 100 + seed})
            settings = bench.settings.model_copy(update={"adapter": recipe})
            questions, teacher = Questions.from_table(pairs), scores
            if number:
                questions = questions + Questions.from_table(log, number)
                teacher = pa.concat_tables([scores, asked])
            adapter, _ = fit_adapter(questions, texts, teacher, bench.encoder, settings, work)
            adapter = adapter.shrunk(strength)
            vectors = adapter.documents(bench.node_vectors)
            found.append(bench.score(adapter.queries(bench.question_vectors), vectors))
        return np.mean(found, axis=0)

    without, lines = served(0), []
    results.add(f"{folder.name}/without", float(without.mean()), "nDCG@10")
    for size in sorted({min(size or log.num_rows, log.num_rows) for size in SIZES}):
        gain: Difference = paired_difference(served(size), without, bench.people.clusters)
        for name, value in (("", gain.mean), ("/low", gain.low), ("/high", gain.high)):
            results.add(f"{folder.name}/{size} questions{name}", value, "nDCG@10")
        lines.append(f"| {folder.name} | {size} | {without.mean():.3f} | {gain} |")
        print(lines[-1], flush=True)
    return lines


def log_of(gold: pa.Table, bench: Bench) -> pa.Table:
    """Return the other half of people's questions; none of them is nearly a test question."""
    questions = gold.column("question").to_pylist()
    reports = (folds_of(gold.column("cluster").to_pylist(), 2) == REPORTING).tolist()
    test = [one for one, is_test in zip(questions, reports) if is_test]
    dev = {question_id(one): one for one, is_test in zip(questions, reports) if not is_test}
    threshold = bench.settings.split.near_duplicate
    parts = log_parts(dev, test, keep=0.0, threshold=threshold)
    kept = {name: dev[name] for name in dev if parts[name] == TRAIN}
    signatures = {name: minhash_signature(plain(text), 1) for name, text in kept.items()}
    signatures |= {f"test {n}": minhash_signature(plain(one), 1) for n, one in enumerate(test)}
    alike = near_duplicates(signatures, set(kept), threshold)
    assert not [pair for pair in alike if pair[1].startswith("test ")]
    assert not set(kept.values()) & set(test)
    print(f"{len(kept)} of {len(dev)} of the other half's questions are the log", flush=True)
    return pa.table({"question_id": list(kept), "question": list(kept.values())})


if __name__ == "__main__":
    raise SystemExit(main())
