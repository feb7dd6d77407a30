"""How long does a newcomer wait: `make demo` after installation, to the verdict and to the end.

    python -m benchmarks.demo

A fresh store and a fresh cache of unpacked models; then the same command again, with nothing to do.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results_file import Results
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.store import ArtifactStore

ROOT = Path(__file__).parent.parent
_PAGE = re.compile(r"report: (\S+)/report\.html")


@dataclass(frozen=True)
class Run:
    """A run of the command: seconds to each report and in all, and its peak memory in GB."""

    reports: list[float]
    seconds: float
    gigabytes: float


def run(folder: Path) -> Run:
    """Run the demo over a store and a cache in `folder`, printing its lines."""
    command = [sys.executable, "-m", "ragft_pipeline.cli", "--store", str(folder / "store")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    start, reports = time.perf_counter(), []
    with subprocess.Popen(
        [*command, "run", "--corpus", "data/sample"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{time.perf_counter() - start:6.1f}  {line}", end="", flush=True)
            if _PAGE.match(line):
                reports.append(time.perf_counter() - start)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the demo failed with {process.returncode}")
    return Run(reports, time.perf_counter() - start, usage.ru_maxrss / 1e6)


def main() -> int:
    results = Results("demo")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        first, second = run(folder), run(folder)
        store = ArtifactStore(folder / "store")
        (version,) = SnapshotStore(store).versions()
        links = store.links(version)
    results.add("verdict", first.reports[0], "s", at_most=180)
    results.add("all", first.seconds, "s", at_most=300)
    results.add("peak memory", first.gigabytes, "GB", at_most=3)
    results.add("second run", second.seconds, "s", at_most=8)
    print("\n| asset | seconds |\n|---|---|")
    for recipe in RECIPES:
        seconds = links[recipe.name].facts["compute_seconds"]
        results.add(f"asset/{recipe.name}", seconds, "s")
        print(f"| {recipe.name} | {seconds:.1f} |")
    print("\n| | |\n|---|---|")
    for name in ("verdict", "all", "peak memory", "second run"):
        figure = results.figures[name]
        print(f"| {name} | {figure['value']:.1f} {figure['unit']} |")
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
