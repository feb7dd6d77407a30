"""How many judgements tell two systems apart: in the order of `ragft label`, and at random?

    python -m benchmarks.label_order FOLDER [FOLDER …]

Each folder holds `docs/` and `queries.jsonl`, whose labels are known; a simulated person judges
right. The untuned hybrid, which is served at first, is compared with the shipped ranker over it.
A set decides from the first question on after which the
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
from ragft_pipeline.evaluation.nodes import Nodes
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.evaluation.significance import standard_error
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.labelling.order import Waiting, disagreement, next_question
from ragft_pipeline.lineage.steps import Step
from ragft_pipeline.recipes.reading import reading
from ragft_pipeline.retrieval.question_sets import RelevanceIndex, gold_set
from ragft_pipeline.store import ArtifactStore, Workspace

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
    made = make(bench.settings, bench.version, recipes.late_interaction)
    artifacts = ArtifactStore(bench.settings.store)
    with artifacts.staging("label_order") as staged:
        work = Workspace(artifacts, "retrieval_eval", staged)
        read = reading(Step(bench.settings, artifacts, bench.version, work))
        late = Models(late_interaction=made["late_interaction"].model)
        nodes = Nodes(made["chunked_nodes"].table_path())
        trial = Trial.of("order", nodes, late, read, work)
        relevant = RelevanceIndex(nodes.rows, nodes.places(nodes.rows))
        people = gold_set("people", made["gold_questions"].table(), relevant)
        pair = (trial.prior, trial.untuned)
        every = np.ones(len(people), bool)
        found = {
            each.name: each.found(each.fit(~every), every)
            for each in trial.measure(people, only=pair)
        }
    apart = found[pair[0]].primary - found[pair[1]].primary
    tops = [found[name].top for name in pair]
    clusters = np.array(people.clusters)
    of = dict(zip(*(bench.nodes.column(name).to_pylist() for name in ("node_id", "doc_key"))))
    waiting = {
        str(n): Waiting(
            disagreement(*(list(map(str, top[n])) for top in tops)),
            of[trial.node_ids[int(tops[1][n, 0])]],
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
