"""Do defaults that are chosen on some corpora hold on others?

    python -m benchmarks.defaults FOLDER FOLDER [FOLDER …] [--documents N]

Each folder holds `docs/` and `queries.jsonl`. The documents alone train adapters: one with the
shipped settings, and one with each of the alternatives below, all of them settings that a user
might turn. What counts is nDCG@10 on people's questions, over the base embedder (they may have
chosen the teacher's weight). Then, for every way to part the corpora in two halves:
which settings would the one half have chosen, and what do these do on the other, beside the shipped
ones? Where both do the same, the shipped settings are not fitted to any of these corpora.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_set import Bench, make
from benchmarks.quality import first_version, subset
from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.evaluation.significance import Difference, paired_difference

SHIPPED = "shipped"
ALTERNATIVES: dict[str, dict[str, dict[str, Any]]] = {
    SHIPPED: {},
    "maps of the question side alone": {"adapter": {"side": "query"}},
    "low rank": {"adapter": {"kind": "low_rank"}},
    "two layers": {"adapter": {"kind": "two_layer"}},
    "4 epochs": {"adapter": {"epochs": 4}},
    "16 epochs": {"adapter": {"epochs": 16}},
    "a third of the rate": {"adapter": {"learning_rate": 3e-4}},
    "three times the rate": {"adapter": {"learning_rate": 3e-3}},
    "teacher's temperature .05": {"adapter": {"teacher_temperature": 0.05}},
    "teacher's temperature .2": {"adapter": {"teacher_temperature": 0.2}},
    "sources count .03": {"adapter": {"source_weight": 0.03}},
    "sources count .3": {"adapter": {"source_weight": 0.3}},
    "BM25 teaches a quarter": {"teacher": {"bm25_weight": 0.25}},
    "BM25 teaches three quarters": {"teacher": {"bm25_weight": 0.75}},
}
TOLERATED = 0.01  # of nDCG@10 that the shipped settings may lie below what the other half chooses


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--documents", type=int, default=500, help="of a corpus, the first by name")
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks"))
    options = parser.parse_args()
    gains: dict[str, Gains] = {}
    for given in options.folders:
        whole = first_version(given, options.store / "subsets")
        folder = subset(whole, options.documents, options.store / "subsets")
        gains[given.name] = measure(folder, options.store / given.name)
    results = Results("defaults")
    print(gains_table(gains, results))
    print(halves_table(gains, results), flush=True)
    return results.finish()


@dataclass(frozen=True)
class Gains:
    """On one corpus: the base embedder's nDCG@10, and what every alternative gains over it."""

    base: float
    over_base: dict[str, Difference]


def measure(folder: Path, store: Path) -> Gains:
    """Train every alternative on one corpus, and score it on people's questions."""
    bench = Bench.begin(folder, store, fresh=False)
    base = bench.score(bench.question_vectors, bench.node_vectors)
    gains = {}
    for name, sections in ALTERNATIVES.items():
        changed = {
            section: getattr(bench.settings, section).model_copy(update=values)
            for section, values in sections.items()
        }
        settings = bench.settings.model_copy(update=changed)
        made = make(settings, bench.version, recipes.embedding_adapter)
        scores = bench.score_adapter(made["embedding_adapter"].model)
        gains[name] = paired_difference(scores, base, bench.people.clusters)
        print(f"{folder.name}: {name}: {gains[name]}", flush=True)
    return Gains(float(base.mean()), gains)


def gains_table(gains: dict[str, Gains], results: Results) -> str:
    """Record every gain with its interval; return them as a Markdown table."""
    asked = {name: one.over_base[SHIPPED].questions for name, one in gains.items()}
    lines = [
        f"\n| adapter | {' | '.join(f'{name}, {asked[name]} questions' for name in gains)} |",
        "|---" * (len(gains) + 1) + "|",
        f"| base embedder | {' | '.join(f'{one.base:.3f}' for one in gains.values())} |",
    ]
    for corpus, one in gains.items():
        results.add(f"{corpus}/base", one.base, "nDCG@10")
        for name, gain in one.over_base.items():
            results.add(f"{corpus}/{name}", gain.mean, "nDCG@10")
            results.add(f"{corpus}/{name}/low", gain.low, "nDCG@10")
            results.add(f"{corpus}/{name}/high", gain.high, "nDCG@10")
    for name in ALTERNATIVES:
        lines.append(f"| {name} | {' | '.join(str(o.over_base[name]) for o in gains.values())} |")
    return "\n".join(lines)


def halves_table(gains: dict[str, Gains], results: Results) -> str:
    """Choose on each half, report on the other; return a Markdown table."""
    sets = sorted(gains)
    lines = [
        "\n| chosen on | choice | on the others, its gain | the shipped settings' | the best |",
        "|---|---|---|---|---|",
    ]
    for half in halves(sets):
        others = [name for name in sets if name not in half]
        choice = max(ALTERNATIVES, key=lambda name: mean(gains, half, name))
        best = max(mean(gains, others, name) for name in ALTERNATIVES)
        chosen, shipped = (mean(gains, others, name) for name in (choice, SHIPPED))
        lines.append(
            f"| {', '.join(half)} | {choice} | {chosen:+.3f} | {shipped:+.3f} | {best:+.3f} |"
        )
        results.add(
            f"chosen on {', '.join(half)}/shipped below the choice", chosen - shipped, "nDCG@10",
            at_most=TOLERATED,
        )  # fmt: skip
    return "\n".join(lines)


def halves(sets: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every half of the corpora; of an odd number, the smaller halves and the larger."""
    sizes = {len(sets) // 2, len(sets) - len(sets) // 2}
    return [half for size in sorted(sizes) for half in combinations(sets, size)]


def mean(gains: dict[str, Gains], sets: Sequence[str], name: str) -> float:
    return float(np.mean([gains[each].over_base[name].mean for each in sets]))


if __name__ == "__main__":
    raise SystemExit(main())
