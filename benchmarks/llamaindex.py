"""The same tuning and evaluation with LlamaIndex's engines and with ours, in one run.

    python -m benchmarks.llamaindex FOLDER [--pairs N] [--adapter-pairs N] [--questions N]

FOLDER holds `docs/` and `queries.jsonl`. Both sides get the same documents, the same synthetic
pairs (our extractive ones, as EmbeddingQAFinetuneDataset JSON), the same base model and threads;
one scorer, ours, scores both on the people's questions, none of which is trained on. LlamaIndex's
engines run with their defaults in `.venv-llamaindex`, which is made on first use.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_set import Bench, columns, make, relevance
from benchmarks.llamaindex_environment import Engines
from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.evaluation.significance import Difference, paired_difference
from ragft_pipeline.questions.exchange import labelled_pairs
from ragft_pipeline.questions.formats.embedding_qa import write_embedding_qa
from ragft_pipeline.retrieval.metrics import score_rankings
from ragft_pipeline.retrieval.question_sets import (
    QuestionSet,
    synthetic_set,
)
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.store import Artifact

DEPTH = 10  # of the rankings that RetrieverEvaluator sees
EMBEDDER_TIMES, ADAPTER_TIMES, EVALUATION_TIMES = 10, 50, 100
SAME = 1e-9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=600, help="pairs for embedder tuning")
    parser.add_argument("--adapter-pairs", type=int, default=3000, help="pairs for the adapter")
    parser.add_argument("--questions", type=int, default=300, help="for RetrieverEvaluator")
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks/llamaindex"))
    options = parser.parse_args()
    engines = Engines(options.store / "engines")  # first: a failed installation should fail early
    bench = Bench.begin(options.folder, options.store / "ours")
    results = Results("llamaindex")
    tuning = [
        *compare_embedders(bench, engines, options.pairs),
        compare_adapters(bench, engines, options.adapter_pairs),
    ]
    print(tuning_table(bench, tuning, results), flush=True)
    print(evaluation_table(bench, engines, options.questions, results), flush=True)
    return results.finish()


@dataclass(frozen=True)
class Tuning:
    """One kind of tuning on both sides: seconds of training and nDCG@10 of each question."""

    name: str
    pairs: int
    times: float
    seconds: tuple[float, float]
    scores: tuple[np.ndarray, np.ndarray]
    preparing: float = 0.0

    def gain(self, clusters: list[str]) -> Difference:
        return paired_difference(self.scores[1], self.scores[0], clusters)


def compare_embedders(bench: Bench, engines: Engines, pairs: int) -> list[Tuning]:
    """Tune both towers; ours are whole assets: loading, vectors of val, training, choosing.

    The other two are of the towers with maps over them, and of maps alone taught by all questions
    there are (teaching and encoding them included), against the same engine.
    """
    made = make(bench.with_pairs(pairs), bench.version, recipes.stacked_adapter)
    ours, stacked = made["tuned_embedder"], made["stacked_adapter"]
    out = engines.folder / "embedder"
    theirs = engines.run("embedder", training_job(bench, made, out))
    number = made["train_qa_pairs"].facts["row_count"]
    seconds = ours.facts["compute_seconds"]
    both = seconds + stacked.facts["compute_seconds"]
    theirs_seconds, their_scores = theirs["seconds"], bench.score_model(out)
    alone, mapped = bench.score_model(ours.model), bench.score_model(ours.model, stacked.model)
    every = make(bench.settings, bench.version, recipes.embedding_adapter)
    steps = ("teacher_scores", "embedding_adapter")
    taught = sum(every[name].facts["compute_seconds"] for name in steps)
    maps = bench.score_adapter(every["embedding_adapter"].model)
    return [
        Tuning(
            "embedder", number, EMBEDDER_TIMES, (theirs_seconds, seconds), (their_scores, alone)
        ),
        Tuning(
            "embedder, maps over ours", number, 1, (theirs_seconds, both), (their_scores, mapped)
        ),
        Tuning(
            "embedder, our maps of all questions",
            every["train_qa_pairs"].facts["row_count"],
            EMBEDDER_TIMES,
            (theirs_seconds, taught),
            (their_scores, maps),
        ),
    ]


def compare_adapters(bench: Bench, engines: Engines, pairs: int) -> Tuning:
    """Train a linear adapter; ours reads vectors and teacher scores that the store holds.

    What these cost is reported beside it: encoding every training question and node, and teaching.
    """
    made = make(bench.with_pairs(pairs), bench.version, recipes.embedding_adapter)
    ours, train = made["embedding_adapter"], made["train_qa_pairs"]
    out = engines.folder / "adapter"
    theirs = engines.run("adapter", training_job(bench, made, out))
    start = time.perf_counter()
    bench.encoder.encode(train.table().column("question").to_pylist(), "query")
    bench.encoder.encode(made["train_nodes"].table().column("text").to_pylist(), "document")
    preparing = time.perf_counter() - start + made["teacher_scores"].facts["compute_seconds"]
    return Tuning(
        "adapter",
        train.facts["row_count"],
        ADAPTER_TIMES,
        (theirs["seconds"], ours.facts["compute_seconds"]),
        (
            bench.score(bench.question_vectors @ their_map(out).T, bench.node_vectors),
            bench.score_adapter(ours.model),
        ),
        preparing,
    )


def training_job(bench: Bench, made: dict[str, Artifact], out: Path) -> dict[str, Any]:
    dataset = out.with_name(f"{out.name}-dataset.json")  # the job itself is <task>.json
    pairs, nodes = (made[name].table() for name in ("train_qa_pairs", "train_nodes"))
    write_embedding_qa(labelled_pairs(pairs, nodes), dataset)
    return {"dataset": str(dataset.resolve()), "model": str(bench.weights.folder), "out": str(out)}


def their_map(folder: Path) -> np.ndarray:
    """Return the matrix that LlamaIndex's LinearLayer multiplies a question's vector with."""
    import torch

    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    return np.asarray(state["linear.weight"])


def tuning_table(bench: Bench, tunings: list[Tuning], results: Results) -> str:
    """Record the figures of both tunings and return them as a Markdown table."""
    base = float(bench.score(bench.question_vectors, bench.node_vectors).mean())
    results.add("base/ndcg_at_10", base, "nDCG@10")
    lines = [
        f"\n{len(bench.people)} people's questions, {bench.nodes.num_rows} nodes, "
        f"base embedder {base:.3f} nDCG@10\n",
        "| tuning | pairs | LlamaIndex, s | ours, s | times faster "
        "| LlamaIndex, nDCG@10 | ours, nDCG@10 | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for tuning in tunings:
        (theirs, ours), gain = tuning.seconds, tuning.gain(bench.people.clusters)
        quality = [float(scores.mean()) for scores in tuning.scores]
        lines.append(
            f"| {tuning.name} | {tuning.pairs} | {theirs:.1f} | {ours:.1f} | {theirs / ours:.0f} "
            f"| {quality[0]:.3f} | {quality[1]:.3f} | {gain} |"
        )
        results.add(f"{tuning.name}/pairs", tuning.pairs, "pairs")
        results.add(f"{tuning.name}/llamaindex/seconds", theirs, "s")
        results.add(f"{tuning.name}/ours/seconds", ours, "s")
        results.add(f"{tuning.name}/faster", theirs / ours, "times", at_least=tuning.times)
        results.add(f"{tuning.name}/llamaindex/ndcg_at_10", quality[0], "nDCG@10")
        results.add(f"{tuning.name}/ours/ndcg_at_10", quality[1], "nDCG@10")
        results.add(f"{tuning.name}/gain", gain.mean, "nDCG@10", at_least=0.0)
        results.add(f"{tuning.name}/gain_low", gain.low, "nDCG@10")
        results.add(f"{tuning.name}/gain_high", gain.high, "nDCG@10")
        if tuning.preparing:
            whole = ours + tuning.preparing
            results.add(f"{tuning.name}/ours/seconds_from_nothing", whole, "s")
            results.add(f"{tuning.name}/faster_from_nothing", theirs / whole, "times")
            lines.append(
                f"| {tuning.name}, encoding and teaching included | {tuning.pairs} "
                f"| {theirs:.1f} | {whole:.1f} | {theirs / whole:.1f} | | | |"
            )
    return "\n".join(lines)


def evaluation_table(bench: Bench, engines: Engines, questions: int, results: Results) -> str:
    """Evaluate the base retriever on both sides and return the times as a Markdown table."""
    made = make(bench.settings, bench.version, recipes.test_qa_pairs)
    place, pairs = columns(bench.nodes), made["test_qa_pairs"].table()
    asked = synthetic_set("test", pairs, relevance(bench.nodes), place, True).first(questions)
    bench.encoder.encode(asked.texts[:1], "query")  # loading is not timed
    encoding, vectors = timed(lambda: bench.encoder.encode(asked.texts, "query"))
    searching, rankings = timed(lambda: top_k(vectors @ bench.node_vectors.T, 100))
    scoring, scores = timed(lambda: score_rankings(rankings, asked.relevant))
    ours = {
        "whole": encoding + searching + scoring,
        "search": searching + scoring,
        "score": scoring,
    }
    theirs = engines.run("evaluate", evaluation_job(bench, engines, asked, vectors, rankings))
    for name, metric in (("hit_rate", "hit_at_10"), ("mrr", "mrr_at_10")):
        apart = np.abs(np.array(theirs["score"][name]) - scores[metric]).max()
        results.add(f"evaluation/{name}_apart", float(apart), metric, at_most=SAME)
        apart = abs(np.mean(theirs["whole"][name]) - scores[metric].mean())
        results.add(f"evaluation/{name}_apart_whole", float(apart), metric)
    apart = apart_from_ir_measures(asked, rankings, scores)
    results.add("evaluation/apart_from_ir_measures", apart, "any metric", at_most=SAME)
    lines = [
        f"\n{len(asked)} synthetic questions, {bench.nodes.num_rows} nodes; largest difference of "
        f"a question's metric to ir-measures {apart:.0e}\n",
        "| evaluation | LlamaIndex, s | ours, s | times faster |",
        "|---|---|---|---|",
    ]
    said = {
        "whole": "encode, search, score",
        "search": "search and score, the same vectors",
        "score": "score the same rankings",
    }
    for name, words in said.items():
        seconds = theirs[name]["seconds"]
        faster = seconds / ours[name]
        bar = EVALUATION_TIMES if name == "search" else None
        results.add(f"evaluation/{name}/llamaindex/seconds", seconds, "s")
        results.add(f"evaluation/{name}/ours/seconds", ours[name], "s")
        results.add(f"evaluation/{name}/faster", faster, "times", at_least=bar)
        lines.append(f"| {words} | {seconds:.2f} | {ours[name]:.4f} | {faster:.0f} |")
    return "\n".join(lines)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = run()
    return time.perf_counter() - start, value


def evaluation_job(
    bench: Bench,
    engines: Engines,
    asked: QuestionSet,
    vectors: np.ndarray,
    rankings: np.ndarray,
) -> dict[str, Any]:
    node_ids = bench.nodes.column("node_id").to_pylist()
    files = {"node_vectors": bench.node_vectors, "question_vectors": vectors}
    for name, values in files.items():
        np.save(engines.folder / f"{name}.npy", values)
    return {
        "model": str(bench.weights.folder),
        "depth": DEPTH,
        "node_ids": node_ids,
        "node_texts": bench.nodes.column("text").to_pylist(),
        "questions": asked.texts,
        "relevant": [[node_ids[i] for i in sorted(wanted)] for wanted in asked.relevant],
        "rankings": rankings[:, :DEPTH].tolist(),
        **{name: str(engines.folder / f"{name}.npy") for name in files},
    }


def apart_from_ir_measures(
    asked: QuestionSet, rankings: np.ndarray, scores: dict[str, np.ndarray]
) -> float:
    """Return the largest difference of any question's metric between ours and ir-measures'."""
    import ir_measures
    from ir_measures import RR, R, Success, nDCG

    names = {
        Success @ 1: "hit_at_1", Success @ 5: "hit_at_5", Success @ 10: "hit_at_10",
        RR @ 10: "mrr_at_10", nDCG @ 10: "ndcg_at_10", R @ 100: "recall_at_100",
    }  # fmt: skip
    row = {question_id: number for number, question_id in enumerate(asked.ids)}
    relevant = {q: {str(n): 1 for n in wanted} for q, wanted in zip(asked.ids, asked.relevant)}
    run = {
        question_id: {str(node): -float(place) for place, node in enumerate(rankings[number])}
        for question_id, number in row.items()
    }
    return max(
        abs(found.value - scores[names[found.measure]][row[found.query_id]])
        for found in ir_measures.iter_calc(list(names), relevant, run)
    )


if __name__ == "__main__":
    raise SystemExit(main())
