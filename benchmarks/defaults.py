"""Do defaults that are chosen on some corpora hold on others?

    python -m benchmarks.defaults FOLDER FOLDER [FOLDER …] [--documents N]

Each folder holds `docs/` and `queries.jsonl`. The documents alone train adapters: one with the
shipped settings, and one with each of the alternatives below, all of them settings that a user
might turn. What counts is nDCG@10 on the people's test questions, over the base embedder (their dev
half may have chosen the teacher's weight). Then, for every way to part the corpora in two halves:
which settings would the one half have chosen, and what do these do on the other, beside the shipped
ones? Where both do the same, the shipped settings are not fitted to any of these corpora.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_set import Bench, make
from benchmarks.quality import first_version, subset
from benchmarks.results_file import Results
from ragft_pipeline import recipes

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
    gains: dict[str, dict[str, float]] = {}
    for given in options.folders:
        whole = first_version(given, options.store / "subsets")
        folder = subset(whole, options.documents, options.store / "subsets")
        gains[given.name] = measure(folder, options.store / given.name)
    results = Results("defaults")
    print(gains_table(gains, results))
    print(halves_table(gains, results), flush=True)
    return results.finish()


def measure(folder: Path, store: Path) -> dict[str, float]:
    """Return the gain over the base embedder of every alternative on one corpus."""
    bench = Bench.begin(folder, store, ("test",), fresh=False)
    base = bench.score(bench.question_vectors, bench.node_vectors)
    gains = {"questions": float(len(base)), "base": float(base.mean())}
    for name, sections in ALTERNATIVES.items():
        changed = {
            section: getattr(bench.settings, section).model_copy(update=values)
            for section, values in sections.items()
        }
        settings = bench.settings.model_copy(update=changed)
        made = make(settings, bench.version, recipes.embedding_adapter)["embedding_adapter"]
        gains[name] = float((bench.score_adapter(made.model) - base).mean())
        print(f"{folder.name}: {name}: {gains[name]:+.4f}", flush=True)
    return gains


def gains_table(gains: dict[str, dict[str, float]], results: Results) -> str:
    """Record every gain; return them as a Markdown table."""
    sets = list(gains)
    lines = [f"\n| adapter | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|"]
    for name in ("questions", "base", *ALTERNATIVES):
        shown = "{:.0f}" if name == "questions" else "{:.3f}" if name == "base" else "{:+.3f}"
        row = " | ".join(shown.format(gains[each][name]) for each in sets)
        lines.append(f"| {name} | {row} |")
        for each in sets:
            unit = "questions" if name == "questions" else "nDCG@10"
            results.add(f"{each}/{name}", gains[each][name], unit)
    return "\n".join(lines)


def halves_table(gains: dict[str, dict[str, float]], results: Results) -> str:
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


def mean(gains: dict[str, dict[str, float]], sets: Sequence[str], name: str) -> float:
    return float(np.mean([gains[each][name] for each in sets]))


if __name__ == "__main__":
    raise SystemExit(main())
