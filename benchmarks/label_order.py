"""How many judgements tell two systems apart: in the order of `ragft label`, and at random?

    python -m benchmarks.label_order FOLDER [FOLDER …]

Each folder holds `docs/` and `queries.jsonl`, whose labels are known; a simulated person judges
right. The untuned hybrid is compared with the hybrid of the adapter (or, where that is no better,
the base embedder with the untuned hybrid). A set decides from the first question on after which the
one-sided test at 5% holds for the next ten as well. Each draw is of four fifths of the questions.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.bench_set import Bench, make
from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.evaluation.significance import standard_error
from ragft_pipeline.labelling.order import Waiting, disagreement, next_question
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.metrics import PRIMARY, score_rankings
from ragft_pipeline.retrieval.search import fuse, top_k

DRAWS, FEWEST, STAYS = 100, 10, 10
_CRITICAL = 1.645


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks/log"))
    options = parser.parse_args()
    results = Results("label_order")
    head = "| corpus | compared | mean difference | order | decided after | decided | wrong |"
    lines = [head, "|---" * 7 + "|"]
    for folder in options.folders:
        lines += measure(folder, options.store / folder.name, results)
    print("\n" + "\n".join(lines) + "\n")
    results.keep_others()
    return results.finish()


def measure(folder: Path, store: Path, results: Results) -> list[str]:
    bench = Bench.begin(folder, store, fresh=False)
    made = make(bench.settings, bench.version, recipes.embedding_adapter)
    statistics = TermStatistics.from_table(made["corpus_statistics"].table())
    words = LexicalIndex(bench.nodes.column("text").to_pylist(), statistics)
    lexical = words.scores(bench.people.texts)
    adapter = load_adapter(made["embedding_adapter"].model, bench.weights.digest)
    dense = bench.question_vectors @ bench.node_vectors.T
    queries = adapter.queries(bench.question_vectors)
    tuned = queries @ adapter.documents(bench.node_vectors).T
    ranked = {
        "base": top_k(dense, 10),
        "hybrid(base)": top_k(fuse(dense, lexical, 0.5), 10),
        "hybrid(adapter)": top_k(fuse(tuned, lexical, 0.5), 10),
    }
    scores = {n: score_rankings(one, bench.people.relevant)[PRIMARY] for n, one in ranked.items()}
    pair = ("hybrid(adapter)", "hybrid(base)")
    if scores[pair[0]].mean() <= scores[pair[1]].mean():
        pair = ("hybrid(base)", "base")
    apart = scores[pair[0]] - scores[pair[1]]
    clusters = np.array(bench.people.clusters)
    documents = bench.nodes.column("doc_key").to_pylist()
    waiting = {
        str(n): Waiting(
            disagreement(*(list(map(str, ranked[name][n])) for name in pair)),
            documents[int(ranked[pair[1]][n, 0])],
        )
        for n in range(len(apart))
    }
    lines = []
    for order in ("random", "active"):
        after, wrong = [], 0
        for draw in range(DRAWS):
            random = np.random.default_rng(draw)
            some = random.permutation(len(apart))[: len(apart) * 4 // 5].tolist()
            own = some if order == "random" else active([str(n) for n in some], waiting)
            decided, right = decision(apart[own], clusters[own].tolist())
            after += [decided] if decided else []
            wrong += not right
        name = f"{folder.name}/{order}"
        median = float(np.median(after)) if len(after) > DRAWS // 2 else float("nan")
        results.add(f"{name}/decided", len(after) / DRAWS, "of draws")
        results.add(f"{name}/wrong", wrong / DRAWS, "of draws")
        if after:
            results.add(f"{name}/judgements", median, "questions, median")
        lines.append(
            f"| {folder.name}, {len(apart)} questions | {' v '.join(pair)} | {apart.mean():+.3f} | "
            f"{order} | {median:.0f} | {len(after) / DRAWS:.0%} | {wrong / DRAWS:.0%} |"
        )
        print(lines[-1], flush=True)
    return lines


def active(names: Sequence[str], waiting: dict[str, Waiting]) -> list[int]:
    """Return questions in the order in which `ragft label` gives them."""
    left, about, found = {name: waiting[name] for name in names}, Counter[str](), []
    while (name := next_question(left, about)) is not None:
        about[left.pop(name).document] += 1
        found.append(int(name))
    return found


def decision(apart: np.ndarray, units: Sequence[str]) -> tuple[int | None, bool]:
    """Return after how many judgements the test decides, and whether for the better system."""
    signs = []
    for number in range(FEWEST, len(apart) + 1):
        error = standard_error(apart[:number], units[:number])
        mean = apart[:number].mean()
        signs.append(0 if error == 0 or abs(mean) < _CRITICAL * error else int(np.sign(mean)))
    for place, sign in enumerate(signs):
        if sign and all(one == sign for one in signs[place : place + STAYS]):
            return FEWEST + place, sign > 0
    return None, True


if __name__ == "__main__":
    raise SystemExit(main())
