"""A cross-encoder before and after tuning, on people's questions.

    python -m benchmarks.reranker FOLDER --cross-encoder MODEL

FOLDER holds `docs/` and `queries.jsonl`; MODEL is a hub id or a local folder. Its score is one more
piece of evidence for the ranker; people's questions of the other folds weigh it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.bench_set import make
from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.evaluation.second_stages import (
    CROSS_ENCODER_RANKER,
    RANKER,
    UNTUNED_CROSS_ENCODER_RANKER,
    staged_name,
)
from ragft_pipeline.evaluation.summary import EvaluationRows
from ragft_pipeline.evaluation.systems import BASE, CONTEXT, hybrid_name
from ragft_pipeline.retrieval.question_sets import SERVED
from ragft_pipeline.settings import load_settings
from ragft_pipeline.store import ArtifactStore


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cross-encoder", required=True)
    parser.add_argument(
        "--questions",
        type=int,
        default=400,
        help="of people's, at most: with more it is not measured",
    )
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks/reranker"))
    options = parser.parse_args()
    settings = load_settings()
    changed = {
        "corpus": settings.corpus.model_copy(update={"source": str(options.folder)}),
        "reranker": settings.reranker.model_copy(update={"model": options.cross_encoder}),
        "evaluation": settings.evaluation.model_copy(update={"max_reranked": options.questions}),
        "store": str(options.store / options.folder.name),
    }
    settings = settings.model_copy(update=changed)
    version = SnapshotStore(ArtifactStore(settings.store)).freeze(settings, print).version
    made = make(settings, version, recipes.retrieval_eval)
    rows = EvaluationRows(made["retrieval_eval"].table(), settings.evaluation)
    results, facts = Results("reranker"), made["reranker"].facts
    read = made["passage_context"].facts["context"] == "on"
    hybrid = hybrid_name(CONTEXT if read else BASE)
    print(f"training: {facts}\n\n| over the ranker without it | nDCG@10 gain, 95% |\n|---|---|")
    stages = (UNTUNED_CROSS_ENCODER_RANKER, CROSS_ENCODER_RANKER)
    untuned, tuned = (staged_name(hybrid, stage) for stage in stages)
    for stage, system in zip(stages, (untuned, tuned)):
        if rows.has(SERVED, system):
            gain = rows.difference(SERVED, system, staged_name(hybrid, RANKER))
            print(f"| {stage} | {gain} on {gain.questions} questions |")
            results.add(f"{options.folder.name}/{stage}/gain", gain.mean, "nDCG@10")
            results.add(f"{options.folder.name}/{stage}/gain_low", gain.low, "nDCG@10")
    if rows.has(SERVED, untuned):
        gain = rows.difference(SERVED, tuned, untuned)
        results.add(f"{options.folder.name}/tuning/gain_high", gain.high, "nDCG@10", at_least=0.0)
    collapsed = float(facts.get("collapsed", 0.0))
    results.add(f"{options.folder.name}/collapsed", collapsed, "", at_most=0.0)
    return results.finish()


if __name__ == "__main__":
    raise SystemExit(main())
