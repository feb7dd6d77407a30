"""What do 10,000, 100,000 and 1,000,000 chunks cost, stage by stage?

    python -m benchmarks.scale [FOLDER …] [--sizes N …] [--tokens N] [--work FOLDER] [--keep]

The corpora are made from the sentences of data/sample and of the folders (scale_corpus.py), in
chunks of at most `--tokens` tokens. Each stage is the pipeline's own recipe in a process of its
own. Vectors come from a stand-in whose width is the real encoder's; the real one is timed on a
sample. CPU seconds are what is judged: other work on the machine does not lengthen them. Then the
pipeline runs once more with nothing changed, and once with one document edited.

Sizes that do not run keep the figures of an earlier run. On the disk 10^6 chunks of 64 tokens take
about 10 GB while they run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.results_file import RESULTS, Results
from benchmarks.scale_corpus import CorpusMaker, save_mean_of_words
from benchmarks.scale_stage import (
    APPROXIMATE,
    ENCODER,
    EVERYTHING,
    STAGES,
    Bench,
    say,
)
from ragft_pipeline.models.weights import resolve_weights

ROOT = Path(__file__).parent.parent
SEED = 13
MEMORY, EXPONENT, RECALL = 6e9, 1.1, 0.98
EDIT = "one document edited"
EDITED = {  # at most, by chunks
    f"{EDIT}/cpu_seconds": {10_000: 10, 100_000: 15, 1_000_000: 60},
    f"{EDIT}/disk": {10_000: 0.02, 100_000: 0.05, 1_000_000: 0.2},
    f"{EDIT}/peak": dict.fromkeys((10_000, 100_000, 1_000_000), 2),
    "unchanged/seconds": dict.fromkeys((10_000, 100_000, 1_000_000), 8),
}
LONG_ENOUGH = 5.0  # CPU seconds from which growth is judged: start-up hides it below
UNITS = {
    "chunks": "chunks", "documents": "documents", "seconds": "s", "cpu_seconds": "s",
    "peak": "GB", "disk": "GB", "rate": "chunks/s", "recall_at_100": "share",
    "cpu_rate": "chunks a CPU second", "rows_computed": "rows",
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--tokens", type=int, default=64, help="of a chunk, at most")
    parser.add_argument("--work", type=Path, default=Path(".ragft/benchmarks/scale"))
    parser.add_argument("--keep", action="store_true", help="leave the stores")
    options = parser.parse_args()
    results = Results("scale")
    found = earlier_figures(set(options.sizes))
    for size in options.sizes:
        for figures in measure(size, options):  # after each stage: a size takes long
            found[size] = figures
            report(found, results)
            results.save()
    print(table(found), flush=True)
    return results.finish()


def measure(size: int, options: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Run all stages on a corpus of `size` chunks; yield the figures so far, by name."""
    folder = (options.work / f"{size}").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    bench = Bench(*(str(folder / name) for name in ("corpus", "store", "model")), options.tokens)
    folder.mkdir(parents=True)
    bench.save(folder)
    save_mean_of_words(resolve_weights("embedded:all-minilm-l6-v2"), Path(bench.model))
    sources = [ROOT / "data" / "sample", *options.folders]
    maker = CorpusMaker(sources, bench.settings().chunking, SEED)
    documents = maker.write(size, Path(bench.corpus))
    say(f"{size}: {documents} documents of {maker.characters} characters")
    figures: dict[str, float] = {"documents": documents}
    before = 0
    for stage in STAGES:
        made = run(folder, stage, figures)
        after = disk_use(Path(bench.store))
        figures[f"{stage}/disk"] = (after - before) / 1e9
        before = after
        if stage == "chunked_nodes":
            figures["chunks"] = made["row_count"]
        if stage == APPROXIMATE:
            kinds = {"dense": "base", "hybrid": "hybrid(base)"}
            for name, system in kinds.items():
                figures[f"{name}/recall_at_100"] = made[f"recall_at_100_{system}"]
        yield figures
    encoder = run(folder, ENCODER, {})
    figures["encoder/rate"] = encoder["chunks_per_second"]
    figures["encoder/cpu_rate"] = encoder["chunks_per_cpu_second"]
    run(folder, EVERYTHING, figures, "unchanged")
    maker.edit(Path(bench.corpus), documents // 2)
    made = run(folder, EVERYTHING, figures, EDIT)
    figures[f"{EDIT}/rows_computed"] = made["rows_computed"]
    figures[f"{EDIT}/disk"] = (disk_use(Path(bench.store)) - before) / 1e9
    yield figures
    if not options.keep:
        shutil.rmtree(folder)


def run(folder: Path, stage: str, figures: dict[str, float], name: str = "") -> dict[str, Any]:
    """Run a stage in its own process and record what it took; return its facts."""
    say(f"{folder.name}: {name or stage}")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale_stage", str(folder), stage],
        cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.PIPE, text=True,
        check=True,
    )  # fmt: skip
    made = json.loads(done.stdout.splitlines()[-1])
    figures[f"{name or stage}/seconds"] = made["seconds"]
    figures[f"{name or stage}/cpu_seconds"] = made["cpu_seconds"]
    figures[f"{name or stage}/peak"] = made["peak_bytes"] / 1e9
    say(f"  {made['cpu_seconds']:.1f} CPU s, {made['peak_bytes'] / 1e9:.2f} GB")
    return dict(made["facts"])


def disk_use(folder: Path) -> int:
    """Return the bytes below a folder, a file with several names counted once."""
    seen: dict[int, int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            facts = (Path(place) / name).stat()
            seen[facts.st_ino] = facts.st_size
    return sum(seen.values())


def earlier_figures(without: set[int]) -> dict[int, dict[str, float]]:
    """Return what an earlier run found for sizes that do not run this time."""
    file = RESULTS / "scale.json"
    found: dict[int, dict[str, float]] = {}
    if file.is_file():
        for name, figure in json.loads(file.read_text(encoding="utf-8"))["figures"].items():
            size, rest = name.split("/", 1)
            if int(size) not in without and not rest.endswith("/exponent"):
                found.setdefault(int(size), {})[rest] = figure["value"]
    return found


def report(found: dict[int, dict[str, float]], results: Results) -> None:
    """Record the figures of all sizes, and what misses its bar."""
    results.figures.clear()
    results.shortfalls.clear()
    for size in sorted(found):
        for name, value in found[size].items():
            kind = name.rsplit("/", 1)[-1]
            bars = {"peak": {"at_most": MEMORY / 1e9}, "recall_at_100": {"at_least": RECALL}}
            bar = bars.get(kind, {})
            if size in EDITED.get(name, {}):
                bar = {"at_most": EDITED[name][size]}
            results.add(f"{size}/{name}", value, UNITS[kind], **bar)
        for stage in STAGES:
            power = exponent(found, size, stage)
            if power is not None:
                long = found[size][f"{stage}/cpu_seconds"] >= LONG_ENOUGH
                bar = EXPONENT if long else None
                results.add(f"{size}/{stage}/exponent", power, "power of chunks", at_most=bar)


def exponent(found: dict[int, dict[str, float]], size: int, stage: str) -> float | None:
    """Return the power of the number of chunks by which CPU time grew from the size below."""
    name = f"{stage}/cpu_seconds"
    needed = {name, "chunks"}
    below = [other for other in found if other < size and needed <= found[other].keys()]
    if not below or not needed <= found[size].keys():
        return None
    small, large = found[max(below)], found[size]
    return math.log(large[name] / small[name]) / math.log(large["chunks"] / small["chunks"])


def table(found: dict[int, dict[str, float]]) -> str:
    """Return the Markdown table of all sizes."""
    lines = [
        "\n| chunks | stage | seconds | CPU s | CPU s a million chunks | peak GB | disk GB "
        "| grows with chunks to the power |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size, figures in sorted(found.items()):
        for stage in (*STAGES, "unchanged", EDIT):
            if f"{stage}/cpu_seconds" not in figures:
                continue
            cpu = figures[f"{stage}/cpu_seconds"]
            power = exponent(found, size, stage) if stage in STAGES else None
            lines.append(
                f"| {figures['chunks']:,.0f} | {stage} | {figures[f'{stage}/seconds']:.1f} "
                f"| {cpu:.1f} | {cpu / figures['chunks'] * 1e6:,.0f} "
                f"| {figures[f'{stage}/peak']:.2f} | {figures.get(f'{stage}/disk', 0):.2f} "
                f"| {'' if power is None else f'{power:.2f}'} |"
            )
    lines.append("")
    for size, figures in sorted(found.items()):
        if not {f"{EDIT}/disk", "dense/recall_at_100", "encoder/rate"} <= figures.keys():
            lines.append(f"{size:,}: not finished.")
            continue
        lines.append(
            f"{size:,}: the approximate index finds {figures['dense/recall_at_100']:.1%} of the "
            f"exact dense 100 and {figures['hybrid/recall_at_100']:.1%} of the hybrid's; the real "
            f"encoder makes {figures['encoder/cpu_rate']:.0f} chunks a CPU second "
            f"({figures['encoder/rate']:.0f} a second); after one edit "
            f"{figures[f'{EDIT}/rows_computed']:.0f} rows are computed."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
